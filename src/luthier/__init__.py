"""Luthier: fine-tuning of open-weight language models behind the Azure OpenAI and OpenAI wire."""

__version__ = "0.1.0"
