"""Accuracy of one set of logits against labels and against a float reference; all means over
rows."""

import numpy as np


def log_softmax(logits):
    """(rows, classes) -> f64, nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def top_k(logits, labels, k):
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def cross_entropy(logits, labels):
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def kl(reference, logits):
    """KL(reference || logits) of the softmax distributions."""
    p, q = log_softmax(reference), log_softmax(logits)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def compare_logits(reference, logits, labels):
    """The figures of `octet eval --against`."""
    return {
        "top1": top_k(logits, labels, 1),
        "top5": top_k(logits, labels, 5),
        "top1_change": top_k(logits, labels, 1) - top_k(reference, labels, 1),
        "agreement": float((reference.argmax(axis=1) == logits.argmax(axis=1)).mean()),
        "kl": kl(reference, logits),
        "cross_entropy_change": cross_entropy(logits, labels) - cross_entropy(reference, labels),
    }
