"""Models, their lineage and their deployments, as rows, pictures and samples of code."""
