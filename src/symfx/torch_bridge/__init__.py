"""The rooms that know torch's private surface, so that no other room has to."""
