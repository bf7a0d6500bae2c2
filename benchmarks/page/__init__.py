"""``python -m benchmarks.page``: results as a page that people can read, in Markdown and as HTML with charts."""
