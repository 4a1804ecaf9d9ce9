"""Reads tool definitions of other vendors (Gemini, Bedrock, Anthropic and others) as those of the OpenAI API."""

from luthier.data.dataset_formats.chat_builder import JsonObject, NotConvertible, decode_json, objects

_UNREADABLE = "its tools are in no form that is known"


def read_tools(value: object) -> list[JsonObject]:
    """The tools of a row: an array, one object, or JSON in a string; [] for none.

    Raises NotConvertible for an unknown form.
    """
    if not value:
        return []
    decoded = decode_json(value) if isinstance(value, str) else value
    if decoded == [] or (isinstance(value, str) and not value.strip()):
        return []
    items = objects([decoded] if isinstance(decoded, dict) else decoded, _UNREADABLE)
    if decoded is None:
        raise NotConvertible(_UNREADABLE)
    return [{"type": "function", "function": function} for item in items for function in _functions(item)]


def _functions(item: JsonObject) -> list[JsonObject]:
    """The functions that one tool defines; Gemini's may hold several. Raises NotConvertible."""
    for key in ("functionDeclarations", "function_declarations"):
        if key in item:
            return [_gemini(one) for one in objects(item[key], _UNREADABLE)]
    specification = item.get("toolSpec")
    if isinstance(specification, dict):
        schema = specification.get("inputSchema")
        return [_function(specification, schema.get("json") if isinstance(schema, dict) else None)]
    function = item.get("function")
    if isinstance(function, dict):
        item = function
    return [
        _function(item, next((item[key] for key in ("parameters", "input_schema", "inputSchema") if key in item), None))
    ]


def _function(item: JsonObject, parameters: object) -> JsonObject:
    """A function's definition of name, description and parameters; other keys are left out. Raises NotConvertible."""
    if not isinstance(item.get("name"), str) or not isinstance(parameters, dict | None):
        raise NotConvertible(_UNREADABLE)
    if "parameter_definitions" in item or "parameterDefinitions" in item:
        raise NotConvertible("its tools are described by Cohere's parameter_definitions, which are no JSON Schema")
    function: JsonObject = {"name": item["name"]}
    if isinstance(item.get("description"), str):
        function["description"] = item["description"]
    return function | ({"parameters": parameters} if parameters is not None else {})


def _gemini(item: JsonObject) -> JsonObject:
    """Gemini's declaration of a function as one of ours. Raises NotConvertible."""
    parameters = item.get("parameters", item.get("parametersJsonSchema"))
    return _function(item, _lower_types(parameters))


def _lower_types(schema: object) -> object:
    """A copy of a schema with Gemini's names of types, such as STRING, in lower case as JSON Schema has them."""
    if isinstance(schema, list):
        return [_lower_types(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: part.lower() if key == "type" and isinstance(part, str) else _lower_types(part)
        for key, part in schema.items()
    }
