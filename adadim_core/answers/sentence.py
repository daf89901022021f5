"""The words of an answer: its statement, what it says of H(R) and I(R;Z), and the notes beside it.

Owns the wording of an answer. Does not own its numbers.
"""

from dataclasses import dataclass

from adadim_core.answers.document import Answer, ConfigurationAnswer
from adadim_core.answers.numbers import decimals_for, number, plain
from adadim_core.answers.table import difference as interval
from adadim_core.answers.table import mean
from adadim_core.answers.words import counted, listed, within_sentence
from adadim_core.spec.metrics import metric_title, short_metric_title

_NAMED = 4
"""So many configurations are named in a list; of more, the rest is counted."""
_WITH_INTERVALS = 2
"""So many are named with their intervals."""
_EXPLAINED = 2
_MANY_SEEDS = 100
_FEWEST_RANKED = 3


@dataclass(frozen=True)
class Words:
    """Puts an answer into words."""

    answer: Answer
    noun: str
    """What is compared: weightings or configurations."""
    obstacle: str | None
    """Why the metric cannot be compared across the configurations, if it cannot."""
    untested: str | None
    """Why ranked configurations have no standing, if they have none."""
    sweep: bool
    changes_values: bool

    def statement(self) -> str:
        """The sentence an experiment ends with."""
        answer = self.answer
        match answer.verdict:
            case "best" | "leads":
                said = self._leading()
            case "none":
                said = self._no_winner()
            case _:
                said = self._no_statement()
        if answer.final or answer.verdict == "no statement":
            return said
        return f"So far, with {answer.trials_done} of {counted(answer.trials, 'trial')} ended: {said}"

    def why(self, separated: dict[str, tuple[int, int]]) -> str | None:
        """What H(R) and I(R;Z) show beside it; None without a statement or without both of them.

        Args:
            separated: by metric, how many pairs of configurations differ beyond doubt, of how many.
        """
        answer = self.answer
        beside = {m: counts for m, counts in separated.items() if m != answer.metric and counts[1]}
        if answer.verdict == "no statement" or not beside:
            return None
        if answer.verdict != "none":
            parts = [part for c in self._standing("worse")[:_EXPLAINED] if (part := self._against(c, beside))]
            return " ".join(parts) or None
        moved = [(short_metric_title(m), counts) for m, counts in beside.items() if counts[0]]
        still = [short_metric_title(m) for m, counts in beside.items() if not counts[0]]
        title = f"the {within_sentence(answer.title)}"
        own, of = separated.get(answer.metric, (0, 0))
        ours = f"; {title} tells {own} of {counted(of, 'pair')} apart, none of them from the leader." if own else "."
        if not moved:
            opening = "The balance does not move" if own else "Nor does the balance move"
            return f"{opening}: {listed(still)} tell{'s' * (len(still) == 1)} no pair apart{ours}"
        (first, (told, pairs)), *others = moved
        words = [f"{first} tells {told} of {counted(pairs, 'pair')} apart", *(f"{m} {n}" for m, (n, _) in others)]
        if own:
            return f"The balance moves: {', '.join([*words, *(f'{m} none' for m in still)])}{ours}"
        return f"The balance moves, {title} does not: {', '.join(words)}; {listed([*still, title])} none."

    def selection(self) -> str | None:
        """The result of choosing without labels; None below three configurations, which cannot be ranked."""
        found = self.answer.without_labels
        if not found or found[0].configurations < _FEWEST_RANKED:
            return None
        against = found[0].against
        parts = []
        for measure in sorted(found, key=lambda a: (a.costs, -(a.tau or 0.0))):
            tau = "no order" if measure.tau is None else f"tau {number(measure.tau, 2)}"
            if measure.low is not None and measure.high is not None:
                tau += f", {number(measure.low, 2)} to {number(measure.high, 2)}"
            cost = number(measure.costs, decimals_for(against, measure.costs))
            parts.append(f"{short_metric_title(measure.measure)} {cost} ({tau})")
        title = within_sentence(metric_title(against))
        said = f"Chosen without labels, the best mean {title} would have been missed by: {'; '.join(parts)}."
        if self.answer.verdict == "none":
            return f"{said} The means are within noise, so that tells little."
        if self.answer.verdict == "no statement":
            return (
                f"{said} The means are of {self._seeds_behind(against)} each and were not tested, so that tells little."
            )
        return said

    def _seeds_behind(self, metric: str) -> str:
        """How many seeds the means of a metric are of: "3 seeds", "1 to 3 seeds"."""
        counts = {c.statistics[metric].n for c in self.answer.configurations if not c.flags and metric in c.statistics}
        least, most = min(counts), max(counts)
        return counted(most, "seed") if least == most else f"{least} to {counted(most, 'seed')}"

    def notes(self) -> list[str]:
        """What must be known beside the statement."""
        answer, notes = self.answer, []
        left_out = [c for c in answer.configurations if c.flags]
        if left_out and answer.verdict != "no statement":
            listed = "; ".join(f"{c.label} ({', '.join(c.flags)})" for c in left_out[:_NAMED])
            more = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
            notes.append(f"Not ranked: {listed}{more}.")
        single = [c for c in answer.configurations if not c.flags and len(c.values) == 1]
        if single and answer.verdict != "no statement":
            notes.append(f"One seed so far, not ranked: {self._list(single)}.")
        if self._seeds_differ:
            notes.append(
                "Not all have the same seeds: the order is that of means as if no seed were missing; the "
                "means and intervals shown are of the seeds that each has."
            )
        resolution = answer.resolution
        if resolution is not None and resolution.saturated:
            spread, error = (number(x, 4) for x in (resolution.spread, resolution.binomial_error))
            notes.append(
                f"{answer.title} is saturated: the means differ by {spread}, and {resolution.images} test images alone "
                f"have an error of {error} (one image is {number(resolution.step, 4)}). Choose a harder metric."
            )
        if not answer.final and answer.verdict != "no statement":
            notes.append("Trials still run: intervals and p values hold for the end of the sweep, not for each look.")
        return notes

    def _leading(self) -> str:
        leader = self._leader
        word = "is best" if self.answer.verdict == "best" else "leads"
        parts = [f"{leader.label} {word}: {self._mean(leader)}."]
        close, worse = self._standing("not distinguishable"), self._standing("worse")
        rest = []
        if len(close) == 1:
            rest.append(f"{close[0].label} is not distinguishable{self._bracketed(close[0])}")
        elif close:
            rest.append(f"{self._list(close)} are not distinguishable")
        if len(worse) == 1:
            rest.append(f"{worse[0].label} is worse{self._bracketed(worse[0])}")
        elif worse:
            rest.append(f"{self._list(worse)} are worse{self._range(worse)}")
        return " ".join([*parts, "; ".join([*rest, *self._not_compared()]) + "."])

    def _no_winner(self) -> str:
        leader = self._leader
        close = self._standing("not distinguishable")
        count = len(close) + 1
        group = f"{count} {self.noun}" if count > 2 else listed(c.label for c in (leader, *close))
        outcome = "; ".join([*([f"{group} are within noise"] if close else []), *self._not_compared()])
        said = f"No winner: {outcome}. {leader.label} has {self._extreme_mean()}"
        settling = [(c.more_seeds, c) for c in close if c.more_seeds is not None]
        if not settling:
            return f"{said}."
        seeds, other = min(settling, key=lambda pair: (pair[0], pair[1].number))
        if seeds > _MANY_SEEDS:
            return f"{said}; it would take more than {_MANY_SEEDS} more seeds to tell any of the others from it."
        return f"{said}; about {counted(seeds, 'more seed')} would settle {other.label} against {leader.label}."

    def _extreme_mean(self) -> str:
        """The leader's mean, and which one that is."""
        leader = self._leader
        extreme = "highest" if self.answer.mode == "max" else "lowest"
        beaten = "" if leader.rank == 1 else " of those that no other beats"
        if not self._seeds_differ:
            return f"the {extreme} mean{beaten}, {self._mean(leader)}"
        return f"the {extreme} mean adjusted for missing seeds{beaten}, its own {self._mean(leader)}"

    def _not_compared(self) -> list[str]:
        """A clause for each reason for which some have no test against the leader."""
        found = self._standing("not compared")
        clauses = []
        for reason in dict.fromkeys(c.untested for c in found):
            of_it = [c for c in found if c.untested == reason]
            shown = [c.label for c in of_it[:_NAMED]]
            if len(of_it) > len(shown):
                shown.append(counted(len(of_it) - len(shown), "other"))
            verb = "is" if len(of_it) == 1 else "are"
            clauses.append(f"{listed(shown)} {verb} not compared with {self._leader.label} ({reason})")
        return clauses

    def _no_statement(self) -> str:
        answer = self.answer
        found = [c for c in answer.configurations if c.values]
        if not self.sweep:
            value = f" {answer.title} {plain(found[0].values[0], answer.metric)}." if found else ""
            return f"No comparison: a single run.{value}"
        if self.changes_values:
            return (
                "No statement: pbt changes the values of trials while they train, so none stands for a configuration."
            )
        if self.obstacle is not None:
            return f"No ranking by {answer.title}: {self.obstacle}."
        if not found:
            yet = "" if answer.final and answer.trials else " yet"
            return f"No statement{yet}: no trial has ended with a {within_sentence(answer.title)}."
        rankable = [c for c in answer.configurations if not c.flags and len(c.values) >= 2]
        if len(rankable) == 1:
            alone = len(answer.configurations) == 1
            why = "is the only configuration" if alone else "no other configuration has two replicates to compare"
            return f"No comparison: {rankable[0].label} has {self._mean(rankable[0])} and {why}."
        so_far = "" if answer.final else " so far"
        if self.untested is not None:
            return f"No statement{so_far}: {self.untested}."
        return (
            f"No statement: no two configurations have two replicates each{so_far}, and one seed cannot tell a "
            "difference from chance. Let each train with several seeds: search.seeds: 5."
        )

    def _against(self, other: ConfigurationAnswer, beside: dict[str, tuple[int, int]]) -> str | None:
        """How the balance of another differs from the leader's."""
        moved, still = [], []
        for metric in beside:
            difference = other.differences.get(metric)
            if difference is None or difference.p_adjusted is None:
                continue
            if difference.p_adjusted <= self.answer.method.level:
                word = "higher" if difference.mean > 0 else "lower"
                moved.append(f"{word} {short_metric_title(metric)} ({interval(difference, metric)})")
            else:
                still.append(short_metric_title(metric))
        if not moved and not still:
            return None
        said = f"Against {self._leader.label}, {other.label} has "
        if not moved:
            return f"{said}no distinguishable difference in {listed(still)}."
        return f"{said}{listed(moved)}" + (f"; {listed(still)} not distinguishable." if still else ".")

    def _standing(self, standing: str) -> list[ConfigurationAnswer]:
        return [c for c in self.answer.configurations if c.standing == standing]

    @property
    def _leader(self) -> ConfigurationAnswer:
        return next(c for c in self.answer.configurations if c.number == self.answer.leader)

    @property
    def _seeds_differ(self) -> bool:
        """Whether some of the ranked lack seeds that others have."""
        return len({tuple(c.seeds) for c in self.answer.configurations if c.rank is not None}) > 1

    def _mean(self, configuration: ConfigurationAnswer) -> str:
        found = configuration.statistics[self.answer.metric]
        return f"{mean(found, self.answer.metric)} ({counted(found.n, 'seed')})"

    def _bracketed(self, configuration: ConfigurationAnswer) -> str:
        difference = configuration.differences.get(self.answer.metric)
        return "" if difference is None else f" ({interval(difference, self.answer.metric)})"

    def _range(self, configurations: list[ConfigurationAnswer]) -> str:
        """How much they differ from the leader, where they are too many for an interval each."""
        if len(configurations) <= _WITH_INTERVALS:
            return ""
        sizes = [abs(c.differences[self.answer.metric].mean) for c in configurations]
        decimals = decimals_for(self.answer.metric, min(sizes))
        least, most = number(min(sizes), decimals), number(max(sizes), decimals)
        return f" (by {least} to {most})" if least != most else f" (by {least})"

    def _list(self, configurations: list[ConfigurationAnswer]) -> str:
        """Names, with their differences where there are few."""
        shown = configurations[:_NAMED] if len(configurations) > _NAMED + 1 else configurations
        names = [c.label + (self._bracketed(c) if len(configurations) <= _WITH_INTERVALS else "") for c in shown]
        if len(shown) < len(configurations):
            names.append(f"{len(configurations) - len(shown)} others")
        return listed(names)
