"""What carrying out the plan for one agent does, in words."""

from __future__ import annotations

import os

from memstore.format.names import MANIFEST
from memstore.ops.repair.agent_plan import AgentPlan
from memstore.ops.repair.repair_step import CopiedRange, RepairStep, sources_of
from memstore.ops.repair.salvage import FileSalvage


def steps_of(plan: AgentPlan) -> list[RepairStep]:
    """What carrying out a plan does, in words."""
    here = [each for each in plan.files if not plan.is_elsewhere(each)]
    steps = [_file_step(plan, each) for each in here if not plan.is_kept(each) or plan.can_restore(each)]
    steps += [_adopt_step(plan, each) for each in here if plan.is_kept(each) and not each.listed]
    steps += [
        RepairStep("keep_once", path, f"Set {path} aside: nothing is in it that is not kept elsewhere.", plan.agent)
        for path in plan.strangers
    ]
    if plan.unmerged:
        sentence = f"Merge {len(plan.unmerged)} lane(s) of {plan.agent} once more, in place of blocks that are damaged."
        steps.append(RepairStep("merge_again", plan.directory, sentence, plan.agent))
    if plan.other:
        sentence = f"Take what only {plan.other} holds into {plan.directory}, where readers look for {plan.agent}."
        steps.append(RepairStep("adopt", plan.other, sentence, plan.agent))
    if plan.needs_index:
        steps.append(_index_step(plan))
    return steps


def _file_step(plan: AgentPlan, each: FileSalvage) -> RepairStep:
    doubled = plan.stands_twice(each)
    if plan.can_restore(each):
        how = []
        if each.flipped:
            how.append(f"{len(each.flipped)} piece(s) in which one bit had flipped")
        if each.copied:
            how.append(f"{len(each.copied)} piece(s) of a good copy, {sources_of(_copied(each))}")
        if each.behind:
            how.append(f"without the {each.behind} bytes behind its end, which are no records")
        what = " and ".join(how) or "its seek table"
        return RepairStep(
            "restore_file",
            each.path,
            f"Write {each.path} again just as it was: {what}.",
            plan.agent,
            records_kept=each.records,
            copied=_copied(each),
        )
    if not each.pieces:
        reason = each.lost[0].reason if each.lost else "it is missing"
        sentence = f"Take {each.path} out of the MANIFEST: {reason}."
        return RepairStep("take_out", each.path, sentence, plan.agent, records_lost=each.records_lost)
    if not each.lost and not each.lost_repeats and doubled:
        sentence = (
            f"Keep {each.records - doubled} records of {each.path} in a new file: {doubled} stand elsewhere, too."
        )
        return RepairStep("keep_once", each.path, sentence, plan.agent, records_kept=each.records - doubled)
    unknown = " and an unknown number of others" if any(lost.records is None for lost in each.lost) else ""
    sentence = (
        f"Keep {each.records - doubled} records of {each.path} in a new file; {each.records_lost}{unknown} are lost."
    )
    if each.copied:
        sentence += f" {len(each.copied)} piece(s) are of a good copy, {sources_of(_copied(each))}."
    return RepairStep(
        "salvage_file",
        each.path,
        sentence,
        plan.agent,
        records_kept=each.records - doubled,
        records_lost=each.records_lost,
        copied=_copied(each),
    )


def _copied(each: FileSalvage) -> tuple[CopiedRange, ...]:
    """What of a file is taken from good copies."""
    lengths = {piece.offset: piece.length for piece in each.pieces}
    return tuple(CopiedRange(at, lengths[at], source) for at, source in sorted(each.copied.items()) if at in lengths)


def _adopt_step(plan: AgentPlan, each: FileSalvage) -> RepairStep:
    where = "keep it in the trash" if each.trashed is not None else "let it count"
    sentence = f"Take {each.path} into the MANIFEST, which has lost its lines, and {where}: {each.records} records."
    return RepairStep("adopt", each.path, sentence, plan.agent, records_kept=each.records)


def _index_step(plan: AgentPlan) -> RepairStep:
    path = os.path.join(plan.directory, MANIFEST)
    sentence = f"Write {path} anew"
    if plan.index.mended:
        sentence += f", {len(plan.index.mended)} line(s) put right"
    copied = tuple(CopiedRange(each.offset, each.length, each.source) for each in plan.index.mended if each.source)
    if copied:
        sentence += f" ({sources_of(copied)})"
    hidden = len(plan.hidden - plan.index.manifest.hidden.ids)
    if hidden:
        sentence += f", {hidden} forgotten record(s) hidden again"
    if plan.index.source:
        sentence += f", by what {plan.index.source} says of it"
    if plan.is_incomplete:
        sentence += ", from the files and lanes of the agent; when its records were merged is not known any more"
        if plan.untold:
            sentence += f", and up to {plan.untold} records that were forgotten may be seen again: forget them anew"
    return RepairStep("write_manifest", path, f"{sentence}.", plan.agent, copied=copied)
