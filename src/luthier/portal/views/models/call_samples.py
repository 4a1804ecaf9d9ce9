"""Code that calls a deployment, as a user would paste it: both SDK styles and curl. The key is read from a variable."""

import json

VERSION = "2024-10-21"


def samples(url: str, deployment: str, embeds: bool) -> list[tuple[str, str]]:
    """Title and code of each way; `url` is the service's address as the visitor's browser has it, without a slash."""
    name, address = json.dumps(deployment), json.dumps(url)
    azure = (
        "import os\n\nfrom openai import AzureOpenAI\n\n"
        f'client = AzureOpenAI(azure_endpoint={address}, api_key=os.environ["LUTHIER_API_KEY"], '
        f'api_version="{VERSION}")\n'
    )
    plain = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url={json.dumps(url + "/v1")}, api_key=os.environ["LUTHIER_API_KEY"])\n'
    )
    if embeds:
        call = (
            f'answer = client.embeddings.create(model={name}, input=["Hello!"])\nprint(len(answer.data[0].embedding))'
        )
        path = "embeddings"
        body: dict[str, object] = {"model": deployment, "input": ["Hello!"]}
    else:
        call = (
            "answer = client.chat.completions.create(\n"
            f'    model={name},  # the deployment\n    messages=[{{"role": "user", "content": "Hello!"}}],\n)\n'
            "print(answer.choices[0].message.content)"
        )
        path = "chat/completions"
        body = {"model": deployment, "messages": [{"role": "user", "content": "Hello!"}]}
    curl = (
        f'curl {url}/v1/{path} \\\n  -H "Authorization: Bearer $LUTHIER_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body)}'"
    )
    return [("Python, Azure OpenAI", azure + call), ("Python, OpenAI", plain + call), ("curl", curl)]
