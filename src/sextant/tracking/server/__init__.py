"""The service of `make serve`.

The server's code is this checkout's; the models answer with the code that they were packed with,
which is imported under another name.
"""
