"""The types of arguments that name a thing of the service, each with its shell completion."""

from typing import Annotated

import typer

from luthier.cli.completion import candidates

JobId = Annotated[str, typer.Argument(autocompletion=candidates.jobs)]
JobIds = Annotated[list[str], typer.Argument(autocompletion=candidates.jobs)]
FileId = Annotated[str, typer.Argument(autocompletion=candidates.files)]
FileIds = Annotated[list[str], typer.Argument(autocompletion=candidates.files)]
BatchId = Annotated[str, typer.Argument(autocompletion=candidates.batches)]
DeploymentName = Annotated[str, typer.Argument(autocompletion=candidates.deployments)]
ModelName = Annotated[str, typer.Argument(autocompletion=candidates.models)]
ModelNames = Annotated[list[str], typer.Argument(autocompletion=candidates.models)]
KeyName = Annotated[str, typer.Argument(autocompletion=candidates.keys)]
ResourceName = Annotated[str, typer.Argument(autocompletion=candidates.resources)]
