"""Backbone states of a table's texts, on disk or in memory."""
