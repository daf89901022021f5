"""The answer to a sweep: which configuration is best, by how much, which are not distinguishable, and what would
settle the rest.

Owns the analysis and its words; service, workers, command line, page and report show them and compute none of their
own. Imports numpy and the spec, never torch. docs/answers.md states every formula with its source.
"""

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer, ConfigurationAnswer

__all__ = ["Answer", "ConfigurationAnswer", "Question", "TrialRow", "answer"]
