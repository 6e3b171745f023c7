"""What people read: Markdown tables, the page, its charts and objects."""
