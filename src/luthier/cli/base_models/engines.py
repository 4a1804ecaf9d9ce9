"""luthier engines: which engine serves each base model that is installed, and why."""

from luthier.cli.screen import AsJson, Quiet, advise, present_table


def engines(json_: AsJson = False, quiet: Quiet = False) -> None:
    """Show which engine serves each installed base model, and why.

    LUTHIER_SERVE_ENGINE chooses one for all; docs/serving.md describes the rule. Columns: model, engine, reason.
    """
    from luthier import catalog
    from luthier.engines import choice
    from luthier.model_folder import BaseModelFolder
    from luthier.settings import Settings

    settings = Settings()
    folder = settings.models_folder
    names = sorted(catalog.load(settings.catalog, folder).entries)
    installed = [name for name in names if BaseModelFolder(folder / name).is_complete]
    chosen = [(name, choice.choose(folder / name, settings.serve_engine)) for name in installed]
    if not chosen:
        advise("No base model is installed. Run: luthier models pull smollm2-135m-instruct")
    rows = [(name, made.engine, made.reason) for name, made in chosen]
    present_table(("model", "engine", "reason"), rows, json_, quiet)
