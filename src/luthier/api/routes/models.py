"""/models: list, get, and the end of a fine-tuned one."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from luthier.api import auth
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.service import models


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    context = services.context
    Caller = Annotated[Principal, Depends(auth.require_key(context))]

    @router.get("/models")
    def list_models(caller: Caller) -> dict[str, Any]:
        return dialect.page([dialect.model(model) for model in models.list_all(context, caller.resource.id)], False)

    @router.get("/models/{model_name:path}")
    def get_model(model_name: str, caller: Caller) -> dict[str, Any]:
        return dialect.model(models.get(context, caller.resource.id, model_name))

    @router.delete("/models/{model_name:path}")
    def delete_model(model_name: str, caller: Caller) -> dict[str, Any]:
        for checkpoint in models.delete(context, caller.resource.id, model_name):
            services.serving.discard(checkpoint)
        return {"id": model_name, "object": "model", "deleted": True}
