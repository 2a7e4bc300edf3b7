"""The routes of the server, by the client that they are for."""
