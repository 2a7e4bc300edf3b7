"""Backbone states of the texts of a table, on disk or in memory."""
