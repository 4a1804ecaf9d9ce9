"""The order of a row's messages: who follows whom, and whether each call has its answer."""

from collections.abc import Sequence

from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows.chat_message import ParsedTurn, Role


def check_order(turns: Sequence[ParsedTurn], collector: ProblemCollector) -> None:
    """Reports what is wrong with the order. A turn of unknown role is assumed to be in order.

    Two answers in a row, and calls and tool messages that do not match, are errors; a late system message is a warning.
    """
    seen_other = False
    for before, turn in zip([None, *turns], turns, strict=False):
        if turn.role is Role.ASSISTANT and before is not None and before.role is Role.ASSISTANT:
            collector.error(
                f"{turn.path}.role",
                "consecutive_assistant_messages",
                "two assistant messages follow each other.",
                "Join them into one, or put the user's turn between them.",
            )
        if turn.role in (Role.SYSTEM, Role.DEVELOPER) and seen_other:
            message = f"a {turn.role} message comes after other turns; many chat templates refuse that."
            collector.warning(
                f"{turn.path}.role", "late_system_message", message, "Put it first, or give it to the user."
            )
        seen_other = seen_other or turn.role not in (Role.SYSTEM, Role.DEVELOPER)
    _check_answers(turns, collector)


def check_learned(turns: Sequence[ParsedTurn], path: str, collector: ProblemCollector) -> None:
    """Reports where nothing, or not all, of a supervised row would be learned. `path` leads to the array."""
    assistants = [turn for turn in turns if turn.role is Role.ASSISTANT]
    if any(turn.role is None for turn in turns):
        return  # it may be the assistant's
    if not assistants:
        message = "no message of the row is the assistant's, so there is nothing to learn."
        fix = "Add the answer that the model shall give, with role assistant."
        collector.error(path, "no_assistant_message", message, fix)
    elif not any(turn.weight for turn in assistants):
        message = "every assistant message has weight 0, so there is nothing to learn."
        collector.error(path, "nothing_to_learn", message, "Give at least one of them weight 1.")
    elif turns[-1].role is not Role.ASSISTANT:
        message = "the row does not end with the assistant's answer; what comes after the last answer is not learned."
        collector.warning(turns[-1].path, "trailing_turn", message, "Add the answer, or remove the turn.")


def _check_answers(turns: Sequence[ParsedTurn], collector: ProblemCollector) -> None:
    """Reports where calls and tool messages do not match.

    Each call is answered right behind it, unless it ends the row; each answer answers one call.
    """
    waiting: dict[str, str] = {}
    answered: set[str] = set()
    earlier: set[str] = set()
    unsure = False
    for turn in turns:
        if turn.role in (Role.TOOL, Role.FUNCTION):
            if turn.answers is None or unsure:
                unsure = True
            elif turn.answers in waiting:
                del waiting[turn.answers]
                answered.add(turn.answers)
            else:
                _refuse_answer(turn, answered, earlier, collector)
            continue
        if not unsure:
            _report_unanswered(waiting, collector)
        earlier |= answered | waiting.keys()
        answered = set()
        waiting = _expected_answers(turn)
        # Where a message or call cannot be read, its answers cannot be judged either.
        unsure = turn.role is None or not turn.all_calls


def _expected_answers(turn: ParsedTurn) -> dict[str, str]:
    """What an answer names, a call's id or for a function_call its name -> the path of the call."""
    if len(turn.calls) == 1 and turn.calls[0].id is None:
        return {turn.calls[0].name: f"{turn.path}.function_call"}
    return {call.id: f"{turn.path}.tool_calls[{index}]" for index, call in enumerate(turn.calls) if call.id is not None}


def _report_unanswered(waiting: dict[str, str], collector: ProblemCollector) -> None:
    """Reports each call in `waiting` (as in _expected_answers), at its path, as unanswered."""
    for call_path in waiting.values():
        message = "the call has no answer before the next turn that is not a tool's."
        fix = "Put a tool message with its tool_call_id right after the message, or remove the call."
        collector.error(call_path, "unanswered_tool_call", message, fix)


def _refuse_answer(turn: ParsedTurn, answered: set[str], earlier: set[str], collector: ProblemCollector) -> None:
    """Reports a tool message that answers no open call of the answer before it.

    `answered` are the calls of that answer that have theirs already, `earlier` the calls of the answers before.
    """
    key = "tool_call_id" if turn.role is Role.TOOL else "name"
    if turn.answers in answered:
        message = "an earlier message answers the same call."
        collector.error(f"{turn.path}.{key}", "duplicate_tool_answer", message, "Keep one answer to each call.")
    elif turn.answers in earlier:
        message = "the answer does not come right after the call that it names."
        fix = "Move it after the assistant message that makes the call."
        collector.error(f"{turn.path}.{key}", "late_tool_answer", message, fix)
    else:
        message = "the message answers a call that the assistant message before it does not make."
        fix = "Name the id of a call of that message." if turn.role is Role.TOOL else "Name the function that it calls."
        collector.error(f"{turn.path}.{key}", "unmatched_tool_answer", message, fix)
