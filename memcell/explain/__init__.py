"""Is it a leak, and what holds it?"""
