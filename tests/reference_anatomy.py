"""Float64 loops over the formulas of AWCL, SimCLR and USCL's labelled term, as their papers write them; they import nothing of uscl."""

import math


def similarity(a, b):
    a, b = [float(x) for x in a], [float(x) for x in b]
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths


def shares(z, temperature):
    """Table [i][p]: log of e^{z_i z_p / t} over the sum of e^{z_i z_a / t} for every a but i."""
    logs = []
    for i in range(len(z)):
        row = {a: similarity(z[i], z[a]) / temperature for a in range(len(z)) if a != i}
        top = max(row.values())
        total = top + math.log(math.fsum(math.exp(x - top) for x in row.values()))
        logs.append({p: x - total for p, x in row.items()})
    return logs


def awcl(z, label, temperature=0.5, base_temperature=None):
    """AWCL's loss of each of 2B rows, row B + b being the second view of row b; -1 is an unknown label. SupCon where all are known."""
    count, logs, losses = len(label), shares(z, temperature), []
    for i in range(2 * count):
        mine = label[i % count]
        positives = [i + count if i < count else i - count]
        if mine != -1:
            positives += [j for j in range(2 * count) if j % count != i % count and label[j % count] == mine]
        losses.append(-math.fsum(logs[i][p] for p in positives) / len(positives))
    scale = 1.0 if base_temperature is None else temperature / base_temperature
    return [scale * loss for loss in losses]


def nt_xent(z, temperature=0.5):
    """SimCLR's loss of each of 2B rows: which of all others is my other view?"""
    count, logs = len(z) // 2, shares(z, temperature)
    return [-logs[i][(i + count) % (2 * count)] for i in range(2 * count)]


def labelled_entropy(logits, label):
    """The mean cross-entropy over the rows that have a label."""
    terms = []
    for row, y in zip(logits, label, strict=True):
        if y >= 0:
            row = [float(x) for x in row]
            terms.append(math.log(math.fsum(math.exp(x - max(row)) for x in row)) + max(row) - row[y])
    return math.fsum(terms) / len(terms)
