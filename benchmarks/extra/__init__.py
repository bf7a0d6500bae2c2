"""Beyond the named workloads: questions that came up while building, kept so that their answers can be had again."""
