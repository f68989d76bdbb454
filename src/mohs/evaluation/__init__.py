"""The truth about a result."""

from mohs.evaluation.summary import EmbeddingReport, evaluate_embeddings

__all__ = ["EmbeddingReport", "evaluate_embeddings"]
