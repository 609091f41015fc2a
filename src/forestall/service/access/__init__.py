"""Who may do what through the API and the pages, and what was done."""
