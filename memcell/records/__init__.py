"""What the rooms hand to one another: frozen records, in bytes and seconds.

Text is made from them in ``view``; nothing here reads memory, draws or judges. One module for each question that a
notebook user asks, so that ``%load_ext`` makes only the classes that it needs.
"""
