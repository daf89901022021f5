"""The answer of a sweep: the best configuration, by how much, what is not distinguishable, what would settle it.

Owns the analysis and its words; service, workers, command line, page and report show them and compute none of their
own. Never imports torch. docs/answers.md states every formula with its source. Nothing is imported here: clients read
documents (document, table, terminal) without numpy, which only `answer` needs.
"""
