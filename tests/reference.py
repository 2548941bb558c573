"""Float64 NumPy references for the arithmetic of uscl, written from the formulas as plain loops; they import nothing of it."""
import numpy as np
from scipy import integrate, optimize, special, stats


# ---- temporal weights: every comparison in Python's unbounded integers ----
def temporal_weights(cine, frame, kind, margin=5, horizon=None, length=None, parts=4, sigma=5.0, alpha=0.2):
    cine, frame = [int(c) for c in cine], [float(f) if np.asarray(f).dtype.kind == "f" else int(f) for f in frame]
    n = len(frame)
    w = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            gap, same = abs(frame[i] - frame[j]), cine[i] == cine[j]
            if kind == "none":
                w[i, j] = i == j
            elif kind == "binary":
                w[i, j] = same and gap <= margin
            elif kind == "linear":
                h = length if horizon is None else horizon
                h = float(h if np.ndim(h) == 0 else h[i])
                w[i, j] = max(0.0, 1.0 - gap / h) if same else 0.0
            elif kind == "gaussian":
                w[i, j] = np.exp(-(gap**2) / (2 * sigma**2)) if same else 0.0
            elif kind == "sigmoid":
                w[i, j] = 2 * special.expit(-alpha * gap) if same else 0.0
            elif kind == "partition":
                part = [min(frame[k] * parts // int(length[k]), parts - 1) for k in (i, j)]
                w[i, j] = part[0] == part[1]
    return w


def pair_weights(weights, cine, negatives, views=1):
    n = len(cine)
    positive, negative = np.zeros((views * n, views * n)), np.zeros((views * n, views * n))
    for a in range(views * n):
        for b in range(views * n):
            i, j = a % n, b % n
            if a == b:
                continue
            if i == j:  # another view of the same frame: always attracted, never pushed away
                positive[a, b] = 1.0
                continue
            positive[a, b] = weights[i, j]
            inside = cine[i] == cine[j]
            if negatives == "all" or (negatives == "same_cine") == inside:
                negative[a, b] = 1.0 - weights[i, j]
    return positive, negative


# ---- contrastive losses ----
def unit(z):
    z = np.asarray(z, np.float64)
    return z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-30)


def info_nce(z, positive, negative, temperature=0.1, denominator="pair"):
    z = unit(z)
    s, m = z @ z.T / temperature, len(z)
    loss = np.zeros(m)
    for i in range(m):
        others = [k for k in range(m) if k != i]
        total = sum(positive[i, j] for j in others)
        if total == 0:
            continue
        for j in others:
            if denominator == "pair":
                exponents, weights = [s[i, j]] + [s[i, k] for k in others], [1.0] + [negative[i, k] for k in others]
            else:
                exponents = [s[i, k] for k in others]
                weights = [1.0 if positive[i, k] > 0 else negative[i, k] for k in others]
            bracket = special.logsumexp(exponents, b=weights) if any(weights) else -np.inf
            if positive[i, j] > 0:
                loss[i] += positive[i, j] * (bracket - s[i, j]) / total
    return loss


def pairwise_contrastive(z, positive, negative, margin=1.0, distance="euclidean"):
    z, m = unit(z), len(z)
    loss = np.zeros(m)
    for i in range(m):
        total = 0.0
        for j in range(m):
            if i == j:
                continue
            d = np.linalg.norm(z[i] - z[j]) if distance == "euclidean" else 1.0 - z[i] @ z[j]
            loss[i] += positive[i, j] * d**2 / 2 + negative[i, j] * max(0.0, margin - d) ** 2 / 2
            total += positive[i, j] + negative[i, j]
        loss[i] = loss[i] / total if total > 0 else 0.0
    return loss


# ---- local regions ----
def region_corners(height, width, size=3, count=13):
    spare = [side - (size + 1 if size > 1 else 1) for side in (height, width)]
    lattice = [[0, s // 2, s] for s in spare]
    quarter = [[s // 4, 3 * s // 4] for s in spare]
    corners = [(a, b) for a in lattice[0] for b in lattice[1]]
    return np.array(corners + [(a, b) for a in quarter[0] for b in quarter[1]])[:count]


def region_neighbours(corners, k=5):
    near = np.zeros((len(corners), len(corners)), bool)
    for r, (y, x) in enumerate(corners):
        order = sorted((int(v - y) ** 2 + int(u - x) ** 2, s) for s, (v, u) in enumerate(corners) if s != r)
        near[r, [s for _, s in order[:k]]] = True
    return near


def bilinear(image, y, x):
    h, w = image.shape[:2]
    y, x = min(max(y, 0.0), h - 1.0), min(max(x, 0.0), w - 1.0)
    top, left = int(np.floor(y)), int(np.floor(x))
    below, right = min(top + 1, h - 1), min(left + 1, w - 1)
    fy, fx = y - top, x - left
    upper = image[top, left] * (1 - fx) + image[top, right] * fx
    lower = image[below, left] * (1 - fx) + image[below, right] * fx
    return upper * (1 - fy) + lower * fy


def sample_regions(maps, corners, size=3):
    maps, corners = np.asarray(maps, np.float64), np.asarray(corners, np.float64)
    corners = np.broadcast_to(corners, (len(maps), *corners.shape[-2:]))
    cells = [(a, b) for a in range(size) for b in range(size)]
    return np.array([[np.concatenate([bilinear(image, y + a, x + b) for a, b in cells]) for y, x in places]
                     for image, places in zip(maps, corners, strict=True)])


def local_pairs(positive, neighbours, negatives, negative=None):
    m, r = len(positive), len(neighbours)
    p, n = np.zeros((m, r, m, r)), np.zeros((m, r, m, r))
    for i in range(m):
        for j in range(m):
            partner = i != j and positive[i, j] > 0
            for a in range(r):
                for b in range(r):
                    if i != j and a == b:
                        p[i, a, j, b] = positive[i, j]
                    if i == j or partner:
                        n[i, a, j, b] = neighbours[a, b]
                    elif negatives == "batch":
                        n[i, a, j, b] = 1.0 if negative is None else negative[i, j]
    return p.reshape(m * r, m * r), n.reshape(m * r, m * r)


# ---- segmentation ----
def soft_dice(probability, target, background=True, absent="ignore", over="image", smooth=0.0):
    first, images = (0 if background else 1), len(target)
    groups = [range(images)] if over == "batch" else [[b] for b in range(images)]
    loss = []
    for group in groups:
        scores = []
        for k in range(first, target.shape[-1]):
            p, g = (np.concatenate([np.ravel(a[b, ..., k]) for b in group]).astype(float) for a in (probability, target))
            if absent == "smooth":
                scores.append((2 * (p @ g) + smooth) / (p.sum() + g.sum() + smooth))
            elif g.sum() > 0:
                scores.append(2 * (p @ g) / (p.sum() + g.sum()))
            elif absent == "zero":
                scores.append(0.0)
        loss += [1.0 - np.mean(scores) if scores else 0.0] * len(group)
    return np.array(loss)


def cross_entropy(logits, target, class_weight=None):
    log_p = special.log_softmax(np.asarray(logits, np.float64), axis=-1)
    weight = np.ones(target.shape[-1]) if class_weight is None else np.asarray(class_weight, np.float64)
    per_pixel = -(weight * np.asarray(target, np.float64) * log_p).sum(axis=-1)
    return np.array([pixels.mean() for pixels in per_pixel])


# ---- Nakagami and speckle ----
def nakagami(x, weight=None, method="moments"):
    x = np.ravel(np.asarray(x, np.float64))
    w = np.ones_like(x) if weight is None else np.ravel(np.asarray(weight, np.float64))
    p, w = x**2, w / w.sum()
    mean = (w * p).sum()
    if method == "moments":
        return mean**2 / (w * (p - mean) ** 2).sum(), mean
    if method == "mle":  # ln m - digamma(m) = ln mean(p) - mean(ln p); the left side falls from +inf to 0
        gap = np.log(mean) - (w * np.log(p)).sum()
        return np.exp(optimize.brentq(lambda t: t - special.digamma(np.exp(t)) - gap, -9, 14)), mean
    return mean / ((w * p * np.log(p)).sum() - mean * (w * np.log(p)).sum()), mean  # Ye and Chen


def kl(m1, o1, m2, o2):
    f, g = stats.nakagami(m1, scale=np.sqrt(o1)), stats.nakagami(m2, scale=np.sqrt(o2))
    high = f.isf(1e-14)
    return integrate.quad(lambda r: f.pdf(r) * (f.logpdf(r) - g.logpdf(r)), 0, high, limit=400, epsabs=1e-10)[0]


def speckle_loss(image, prediction, target, form="parameters"):
    loss = np.zeros(len(image))
    for b in range(len(image)):
        for k in range(target.shape[-1]):
            if target[b, ..., k].sum() > 0:
                got, want = (np.array(nakagami(image[b], w[b, ..., k])) for w in (prediction, target))
                gap = np.log(got) - np.log(want) if form == "log_parameters" else got - want
                loss[b] += np.sqrt((gap**2).sum())
    return loss
