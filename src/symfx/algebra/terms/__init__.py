"""Terms: interned expressions in normal form, and the table that makes them."""
