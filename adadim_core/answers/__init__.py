"""The answer to a sweep: which configuration is best, by how much, which are not distinguishable, and what would
settle the rest.

Owns the analysis and its words; service, workers, command line, page and report show them and compute none of their
own. Never imports torch. docs/answers.md states every formula with its source. Nothing is imported here: clients read
documents (document, table, terminal) without numpy, which only `answer` needs.
"""
