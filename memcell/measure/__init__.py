"""What did this cell cost? Readings only, no judgement."""
