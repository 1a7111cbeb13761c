"""The folder from which uvicorn imports the service of `make serve`."""
