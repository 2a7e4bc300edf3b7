"""Preference data: rows, tables, simulated texts, batches of prompts."""
