"""Full-text and filtered search over every tier; only this package knows tantivy, and only when it is used."""
