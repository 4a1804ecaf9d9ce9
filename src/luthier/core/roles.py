"""What a caller may do: roles under Azure's names, and the actions that they are made of."""

from enum import StrEnum


class Role(StrEnum):
    """Azure's built-in roles for its OpenAI service; `OWNER` is what key1 and key2 of a resource have."""

    OWNER = "Owner"
    OPENAI_USER = "Cognitive Services OpenAI User"
    OPENAI_CONTRIBUTOR = "Cognitive Services OpenAI Contributor"
    CONTRIBUTOR = "Cognitive Services Contributor"
    USAGES_READER = "Cognitive Services Usages Reader"


class Action(StrEnum):
    """One kind of operation that a request performs."""

    INFER = "inference"
    FILES_READ = "files/read"
    FILES_WRITE = "files/write"
    JOBS_READ = "jobs/read"
    JOBS_WRITE = "jobs/write"
    BATCHES_READ = "batches/read"
    BATCHES_WRITE = "batches/write"
    MODELS_READ = "models/read"
    MODELS_WRITE = "models/write"
    DEPLOYMENTS_READ = "deployments/read"
    DEPLOYMENTS_WRITE = "deployments/write"
    RESOURCES_READ = "resources/read"
    RESOURCES_WRITE = "resources/write"
    KEYS_READ = "keys/read"
    KEYS_WRITE = "keys/write"
    USAGES_READ = "usages/read"
    WEBHOOKS_READ = "webhooks/read"
    WEBHOOKS_WRITE = "webhooks/write"

    @property
    def is_change(self) -> bool:
        """Whether it changes something that stays: such a request leaves an audit line."""
        return self.value.endswith("/write")


_TUNING = {
    Action.FILES_READ,
    Action.FILES_WRITE,
    Action.JOBS_READ,
    Action.JOBS_WRITE,
    Action.MODELS_READ,
    Action.MODELS_WRITE,
    Action.DEPLOYMENTS_READ,
    Action.DEPLOYMENTS_WRITE,
    Action.WEBHOOKS_READ,
    Action.WEBHOOKS_WRITE,
}
ACTIONS: dict[Role, frozenset[Action]] = {
    Role.OWNER: frozenset(Action),
    Role.OPENAI_USER: frozenset({Action.INFER, Action.MODELS_READ, Action.DEPLOYMENTS_READ}),
    # A batch reads a file, calls models and writes files: it takes the rights to all three.
    Role.OPENAI_CONTRIBUTOR: frozenset({Action.INFER, Action.BATCHES_READ, Action.BATCHES_WRITE, *_TUNING}),
    # As in Azure it may not call models itself; it may regenerate key1 and call with that.
    Role.CONTRIBUTOR: frozenset(
        {
            *_TUNING,
            Action.BATCHES_READ,
            Action.RESOURCES_READ,
            Action.RESOURCES_WRITE,
            Action.KEYS_READ,
            Action.KEYS_WRITE,
            Action.USAGES_READ,
        }
    ),
    Role.USAGES_READER: frozenset({Action.USAGES_READ}),
}
"""Contract section 18; `docs/access.md` shows it as a table."""


def with_action(action: Action) -> list[Role]:
    """The roles that allow an action, those with the fewest rights first."""
    return sorted((role for role in Role if action in ACTIONS[role]), key=lambda role: len(ACTIONS[role]))


def by_name(name: str) -> Role | None:
    """A role by its name, without regard to case and outer blanks; None for a name of none."""
    return next((role for role in Role if role.lower() == name.strip().lower()), None)
