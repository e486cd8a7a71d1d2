"""What an evaluation found, as Markdown, JSON and one HTML page."""
