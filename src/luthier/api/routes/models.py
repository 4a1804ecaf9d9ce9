"""/models: list, get, and delete a fine-tuned one."""

from typing import Annotated, Literal

from fastapi import Depends

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Deleted
from luthier.api.dialects.dialects import Dialect
from luthier.api.routing.operation import PageOf, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.models import models


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of models."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get("/models", Action.MODELS_READ, "List models", json_reply(PageOf(dialect.model)))
    def list_models(caller: Caller) -> object:
        """Base models, their aliases, and the caller's fine-tuned models and checkpoints, on one page."""
        names = models.list_all(context, caller.resource.id)
        return answer.page([dialect.model.from_model(model) for model in names], has_more=False)

    @router.get("/models/{model_name:path}", Action.MODELS_READ, "Get a model", json_reply(dialect.model))
    def get_model(model_name: str, caller: Caller) -> object:
        return dialect.model.from_model(models.get(context, caller.resource.id, model_name))

    @router.delete(
        "/models/{model_name:path}",
        Action.MODELS_WRITE,
        "Delete a fine-tuned model",
        json_reply(Deleted[Literal["model"]]),
    )
    def delete_model(model_name: str, caller: Caller) -> object:
        """Deletes its checkpoints too; the name of one checkpoint deletes that one.

        409 while a deployment uses any of them.
        """
        for checkpoint in models.delete(context, caller.resource.id, model_name):
            services.serving.discard(checkpoint)
        return Deleted(id=model_name, object="model")
