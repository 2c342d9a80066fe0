/* Element-wise passes of a training step, each fused into one visit of the memory. The definitions are the *_plain functions
   beside their callers (norm.py, rope.py, mlp.py, loss.py); kernels.py compiles this file when a C compiler is at hand. */

#include "kernels.h"

/* y = weight * x * rstd, rstd = (mean(x^2) + eps)^-1/2; x (rows, width) float. */
void rms_norm(const float *x, const float *weight, float eps, real *y, float *rstd, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            const float *xr = x + row * width;
            real *yr = y + row * width;
            float square = 0.0f;
            SUM(square, width) square += xr[i] * xr[i];
            float scale = 1.0f / sqrtf(square / width + eps);
            rstd[row] = scale;
            EACH(width) yr[i] = put(weight[i] * (xr[i] * scale));
        }
    }
}

/* dx = rstd * (dy weight - u mean(dy weight u)) with u = x rstd; d_weight (threads, width) starts at zero. */
void rms_norm_backward(const real *dy, const float *x, const float *weight, const float *rstd, float *dx, float *d_weight,
                       int64_t rows, int64_t width, int threads) {
    TEAM {
        float *dw = d_weight + omp_get_thread_num() * width;
        ROWS(rows) {
            const real *gr = dy + row * width;
            const float *xr = x + row * width;
            float *out = dx + row * width;
            float scale = rstd[row], along = 0.0f;
            SUM(along, width) along += get(gr[i]) * weight[i] * xr[i];
            along *= scale * scale / width;
            EACH(width) {
                float g = get(gr[i]);
                dw[i] += g * xr[i] * scale;
                out[i] = scale * (g * weight[i] - xr[i] * along);
            }
        }
    }
}

/* Heads (rows, heads, 2 half), normalised where weight is given, then turned by the angles of their place (row % period). */
void norm_rotate(const real *x, const float *weight, float eps, const float *cosine, const float *sine, real *y, float *rstd,
                 int64_t rows, int64_t heads, int64_t half, int64_t period, int threads) {
    TEAM {
        ROWS(rows) {
            const float *c = cosine + row % period * half, *s = sine + row % period * half;
            for (int64_t head = row * heads; head < (row + 1) * heads; head++) {
                const real *left = x + head * 2 * half, *right = left + half;
                real *out = y + head * 2 * half;
                if (!weight) {
                    EACH(half) {
                        float a = get(left[i]), b = get(right[i]);
                        out[i] = put(a * c[i] - b * s[i]);
                        out[i + half] = put(b * c[i] + a * s[i]);
                    }
                    continue;
                }
                float square = 0.0f;
                SUM(square, 2 * half) square += get(left[i]) * get(left[i]);
                float scale = 1.0f / sqrtf(square / (2 * half) + eps);
                rstd[head] = scale;
                EACH(half) {
                    float a = get(left[i]) * scale * weight[i], b = get(right[i]) * scale * weight[i + half];
                    out[i] = put(a * c[i] - b * s[i]);
                    out[i + half] = put(b * c[i] + a * s[i]);
                }
            }
        }
    }
}

/* Turn back, then through the norm; d_weight (threads, 2 half) starts at zero. */
void norm_rotate_backward(const real *dy, const real *x, const float *weight, const float *rstd, const float *cosine,
                          const float *sine, real *dx, float *d_weight, int64_t rows, int64_t heads, int64_t half,
                          int64_t period, int threads) {
    TEAM {
        float *dw = d_weight + omp_get_thread_num() * 2 * half;
        ROWS(rows) {
            const float *c = cosine + row % period * half, *s = sine + row % period * half;
            for (int64_t head = row * heads; head < (row + 1) * heads; head++) {
                const real *gr = dy + head * 2 * half, *xr = x + head * 2 * half;
                real *out = dx + head * 2 * half;
                if (!weight) {
                    EACH(half) {
                        float a = get(gr[i]), b = get(gr[i + half]);
                        out[i] = put(a * c[i] + b * s[i]);
                        out[i + half] = put(b * c[i] - a * s[i]);
                    }
                    continue;
                }
                float scale = rstd[head], along = 0.0f;
                SUM(along, half) {
                    float a = get(gr[i]) * c[i] + get(gr[i + half]) * s[i], b = get(gr[i + half]) * c[i] - get(gr[i]) * s[i];
                    along += a * weight[i] * get(xr[i]) + b * weight[i + half] * get(xr[i + half]);
                }
                along *= scale * scale / (2 * half);
                EACH(half) {
                    float a = get(gr[i]) * c[i] + get(gr[i + half]) * s[i], b = get(gr[i + half]) * c[i] - get(gr[i]) * s[i];
                    float p = get(xr[i]), q = get(xr[i + half]);
                    dw[i] += a * p * scale;
                    dw[i + half] += b * q * scale;
                    out[i] = put(scale * (a * weight[i] - p * along));
                    out[i + half] = put(scale * (b * weight[i + half] - q * along));
                }
            }
        }
    }
}

/* y = silu(gate) * up, (rows, width). */
void swiglu(const real *gate, const real *up, real *y, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            const real *g = gate + row * width, *u = up + row * width;
            real *out = y + row * width;
            EACH(width) {
                float x = get(g[i]);
                out[i] = put(x * sigmoid(x) * get(u[i]));
            }
        }
    }
}

/* In place: gate and up become their gradients, dy becomes the forward result that the next weight's gradient needs. */
void swiglu_backward(real *dy, real *gate, real *up, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            real *d = dy + row * width, *g = gate + row * width, *u = up + row * width;
            EACH(width) {
                float x = get(g[i]), y = get(u[i]), grad = get(d[i]), share = sigmoid(x), act = x * share;
                g[i] = put(grad * y * share * (1.0f + x - act));
                u[i] = put(grad * act);
                d[i] = put(act * y);
            }
        }
    }
}

/* y = share * silu(gate) * up, (rows, width); gate and up lie side by side, (rows, 2 width); share (rows). */
void swiglu_shared(const real *pair, const float *share, real *y, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            const real *g = pair + 2 * row * width, *u = g + width;
            real *out = y + row * width;
            EACH(width) {
                float x = get(g[i]);
                out[i] = put(share[row] * x * sigmoid(x) * get(u[i]));
            }
        }
    }
}

/* In place: the pair becomes its gradients, dy becomes the forward result; d_share (rows) is written. */
void swiglu_shared_backward(real *dy, real *pair, const float *share, float *d_share, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            real *d = dy + row * width, *g = pair + 2 * row * width, *u = g + width;
            float total = 0.0f, part = share[row];
            SUM(total, width) {
                float x = get(g[i]), y = get(u[i]), grad = get(d[i]), open = sigmoid(x), act = x * open;
                total += grad * act * y;
                g[i] = put(part * grad * y * open * (1.0f + x - act));
                u[i] = put(part * grad * act);
                d[i] = put(part * act * y);
            }
            d_share[row] = total;
        }
    }
}

/* Logits (rows, width) become softmax minus one-hot, times the slope of the cap (cap 0: none); loss (rows) in nats. */
void cross_entropy(float *logits, const int64_t *targets, float cap, float *loss, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            float *z = logits + row * width;
            float top = -INFINITY, total = 0.0f, chosen;
            if (cap > 0.0f) EACH(width) z[i] = cap * (2.0f * sigmoid(2.0f * z[i] / cap) - 1.0f);
            _Pragma("omp simd reduction(max : top)") for (int64_t i = 0; i < width; i++) top = z[i] > top ? z[i] : top;
            chosen = z[targets[row]];
            if (cap > 0.0f) {
                SUM(total, width) total += power(z[i] - top);
                EACH(width) {
                    float bent = z[i] / cap;
                    z[i] = (power(z[i] - top) / total - (i == targets[row] ? 1.0f : 0.0f)) * (1.0f - bent * bent);
                }
            } else {
                SUM(total, width) {
                    z[i] = power(z[i] - top);
                    total += z[i];
                }
                EACH(width) z[i] /= total;
                z[targets[row]] -= 1.0f;
            }
            loss[row] = logf(total) + top - chosen;
        }
    }
}

/* Logits capped (cap > 0) and divided by the temperature (scale its inverse), in place. */
static inline void bend(float *z, float cap, float scale, int64_t width) {
    if (cap > 0.0f) EACH(width) z[i] = cap * (2.0f * sigmoid(2.0f * z[i] / cap) - 1.0f);
    if (scale != 1.0f) EACH(width) z[i] *= scale;
}

/* found = log softmax(bent logits)[target], total = log sum e^z, and where wanted the entropy; the logits stay bent. */
void log_probabilities(float *logits, const int64_t *targets, float cap, float scale, float *found, float *total, float *entropy,
                       int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            float *z = logits + row * width;
            float top = -INFINITY, sum = 0.0f, along = 0.0f;
            bend(z, cap, scale, width);
            _Pragma("omp simd reduction(max : top)") for (int64_t i = 0; i < width; i++) top = z[i] > top ? z[i] : top;
            SUM(sum, width) sum += power(z[i] - top);
            total[row] = logf(sum) + top;
            found[row] = z[targets[row]] - top - logf(sum);
            if (entropy) {
                SUM(along, width) along += power(z[i] - top) * (z[i] - top);
                entropy[row] = logf(sum) - along / sum;
            }
        }
    }
}

/* The logits become the gradient of grad * log-probability; bent: whether they have been bent already. */
void log_probability_error(float *logits, const int64_t *targets, const float *total, const float *grad, float cap, float scale,
                           int64_t bent, int64_t rows, int64_t width, int threads) {
    TEAM {
        ROWS(rows) {
            float *z = logits + row * width;
            float all = total[row], g = grad[row] * scale, bound = cap * scale;
            int64_t target = targets[row];
            if (!bent) bend(z, cap, scale, width);
            if (cap > 0.0f) {
                EACH(width) {
                    float part = z[i] / bound;
                    z[i] = g * ((i == target ? 1.0f : 0.0f) - power(z[i] - all)) * (1.0f - part * part);
                }
            } else {
                EACH(width) z[i] = -g * power(z[i] - all);
                z[target] += g;
            }
        }
    }
}
