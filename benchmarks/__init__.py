"""Named, seeded workloads, measured against a floor and against peers in the same run.

``python -m pytest benchmarks`` runs them; ``pytest.ini`` and ``conftest.py`` beside this file hold their options.
"""
