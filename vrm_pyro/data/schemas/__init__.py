"""Published forms of preference data: one file each, and the table that finds them."""
