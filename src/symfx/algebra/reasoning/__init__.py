"""Reasoning: facts about terms, and the provers that decide conditions from them."""
