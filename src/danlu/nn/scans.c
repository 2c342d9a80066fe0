/* Recurrences over the tokens of a row: what a channel or a head remembers stays in the nearest cache while the row goes by.
   The definitions are the *_plain functions in conv.py, ssm.py and wkv.py. Everything is float32.

   A task is one row and LANES channels (or one head). Backward passes need each token's state: it is kept every PIECE tokens
   and computed again in between. `fresh` (rows, tokens) is 1 where a document begins: nothing before it is remembered.
   Sums over a shared weight are left as one share a task, so that the number of threads changes no bit. */

#include <stdlib.h>

#include "kernels.h"

#define LANES 64
#define PIECE 16
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define MOST(a, b) ((a) > (b) ? (a) : (b))
#define PIECES(tokens) (((tokens) + PIECE - 1) / PIECE)
#define NOTHING (-1e38f) /* exponent of a sum that is still empty */

/* y = silu(bias + sum_j weight[j] x[t - j]), as far back as place[t] (NULL: the start of the row) allows.
   x, y (rows, tokens, width); weight (taps, width), tap 0 is the token itself; bias may be NULL; place (rows, tokens). */
void causal_conv(const float *x, const float *weight, const float *bias, const int64_t *place, float *y, int64_t rows,
                 int64_t tokens, int64_t width, int64_t taps, int threads) {
    int64_t blocks = (width + LANES - 1) / LANES;
    TEAM ROWS(rows * blocks) {
        int64_t at = row / blocks * tokens, lane = row % blocks * LANES, n = LEAST(LANES, width - lane);
        for (int64_t t = 0; t < tokens; t++) {
            const float *now = x + (at + t) * width + lane;
            float *out = y + (at + t) * width + lane, sum[LANES];
            int64_t reach = LEAST(place ? place[at + t] : t, taps - 1);
            EACH(n) sum[i] = (bias ? bias[lane + i] : 0.0f) + weight[lane + i] * now[i];
            for (int64_t j = 1; j <= reach; j++) {
                const float *w = weight + j * width + lane, *then = now - j * width;
                EACH(n) sum[i] += w[i] * then[i];
            }
            EACH(n) out[i] = sum[i] * sigmoid(sum[i]);
        }
    }
}

/* dx (rows, tokens, width), d_weight (rows, taps, width) and d_bias (rows, width) start at zero. */
void causal_conv_backward(const float *dy, const float *x, const float *weight, const float *bias, const int64_t *place, float *dx,
                          float *d_weight, float *d_bias, int64_t rows, int64_t tokens, int64_t width, int64_t taps, int threads) {
    int64_t blocks = (width + LANES - 1) / LANES;
    TEAM ROWS(rows * blocks) {
        int64_t line = row / blocks, at = line * tokens, lane = row % blocks * LANES, n = LEAST(LANES, width - lane);
        float *db = d_bias + line * width + lane;
        for (int64_t t = 0; t < tokens; t++) {
            int64_t here = (at + t) * width + lane, reach = LEAST(place ? place[at + t] : t, taps - 1);
            float sum[LANES];
            EACH(n) sum[i] = (bias ? bias[lane + i] : 0.0f) + weight[lane + i] * x[here + i];
            for (int64_t j = 1; j <= reach; j++) {
                const float *w = weight + j * width + lane, *then = x + here - j * width;
                EACH(n) sum[i] += w[i] * then[i];
            }
            EACH(n) {
                float share = sigmoid(sum[i]);
                sum[i] = dy[here + i] * share * (1.0f + sum[i] * (1.0f - share));
                db[i] += sum[i];
            }
            for (int64_t j = 0; j <= reach; j++) {
                const float *w = weight + j * width + lane, *then = x + here - j * width;
                float *dw = d_weight + (line * taps + j) * width + lane, *back = dx + here - j * width;
                EACH(n) {
                    dw[i] += sum[i] * then[i];
                    back[i] += sum[i] * w[i];
                }
            }
        }
    }
}

/* Selective scan: h[s] = exp(dt A[s]) h[s] + dt B[s] x, y = sum_s C[s] h[s], for every channel.
   x, dt, y (rows, tokens, width); A (states, width); B, C (rows, tokens, states); state (rows, states, width) is read and
   replaced; kept (rows, pieces, states, width): the state before every PIECE tokens, or NULL. */
void selective_scan(const float *x, const float *dt, const float *A, const float *B, const float *C, const uint8_t *fresh, float *y,
                    float *state, float *kept, int64_t rows, int64_t tokens, int64_t width, int64_t states, int threads) {
    int64_t blocks = (width + LANES - 1) / LANES, size = states * width;
    TEAM ROWS(rows * blocks) {
        int64_t line = row / blocks, lane = row % blocks * LANES, n = LEAST(LANES, width - lane);
        float *h = state + line * size + lane;
        for (int64_t t = 0; t < tokens; t++) {
            int64_t token = line * tokens + t, here = token * width + lane;
            float sum[LANES] = {0}, u[LANES];
            if (kept && t % PIECE == 0)
                for (int64_t s = 0; s < states; s++)
                    memcpy(kept + (line * PIECES(tokens) + t / PIECE) * size + s * width + lane, h + s * width, n * sizeof(float));
            if (fresh && fresh[token])
                for (int64_t s = 0; s < states; s++) memset(h + s * width, 0, n * sizeof(float));
            EACH(n) u[i] = dt[here + i] * x[here + i];
            for (int64_t s = 0; s < states; s++) {
                const float *a = A + s * width + lane;
                float *hs = h + s * width, b = B[token * states + s], c = C[token * states + s];
                EACH(n) {
                    hs[i] = power(dt[here + i] * a[i]) * hs[i] + u[i] * b;
                    sum[i] += c * hs[i];
                }
            }
            memcpy(y + here, sum, n * sizeof(float));
        }
    }
}

/* dx, ddt as x; dA (rows, states, width) and dB, dC (blocks of LANES channels, rows, tokens, states) start at zero. */
void selective_scan_backward(const float *dy, const float *x, const float *dt, const float *A, const float *B, const float *C,
                             const uint8_t *fresh, const float *kept, float *dx, float *ddt, float *dA, float *dB, float *dC,
                             int64_t rows, int64_t tokens, int64_t width, int64_t states, int threads) {
    int64_t blocks = (width + LANES - 1) / LANES, size = states * width, part = states * LANES;
    TEAM {
        float *before = malloc((2 * PIECE + 1) * part * sizeof(float)), *decay = before + PIECE * part, *dh = decay + PIECE * part;
        ROWS(rows * blocks) {
            int64_t line = row / blocks, block = row % blocks, lane = block * LANES, n = LEAST(LANES, width - lane);
            memset(dh, 0, part * sizeof(float));
            for (int64_t piece = PIECES(tokens) - 1; piece >= 0; piece--) {
                int64_t first = piece * PIECE, last = LEAST(first + PIECE, tokens);
                const float *start = kept + (line * PIECES(tokens) + piece) * size + lane;
                for (int64_t s = 0; s < states; s++) {
                    const float *a = A + s * width + lane;
                    float h[LANES];
                    memcpy(h, start + s * width, n * sizeof(float));
                    for (int64_t t = first; t < last; t++) {
                        int64_t token = line * tokens + t, here = token * width + lane;
                        float *was = before + (t - first) * part + s * LANES, *by = decay + (t - first) * part + s * LANES;
                        float b = B[token * states + s], stays = fresh && fresh[token] ? 0.0f : 1.0f;
                        EACH(n) {
                            was[i] = h[i] * stays;
                            by[i] = power(dt[here + i] * a[i]);
                            h[i] = by[i] * was[i] + dt[here + i] * x[here + i] * b;
                        }
                    }
                }
                for (int64_t t = last - 1; t >= first; t--) {
                    int64_t token = line * tokens + t, here = token * width + lane, share = ((block * rows + line) * tokens + t) * states;
                    float u[LANES], du[LANES] = {0}, dlog[LANES] = {0}, stays = fresh && fresh[token] ? 0.0f : 1.0f;
                    EACH(n) u[i] = dt[here + i] * x[here + i];
                    for (int64_t s = 0; s < states; s++) {
                        const float *a = A + s * width + lane;
                        const float *was = before + (t - first) * part + s * LANES, *by = decay + (t - first) * part + s * LANES;
                        float *d = dh + s * LANES, *da = dA + line * size + s * width + lane;
                        float b = B[token * states + s], c = C[token * states + s], db = 0.0f, dc = 0.0f;
                        PRAGMA(omp simd reduction(+ : db, dc)) for (int64_t i = 0; i < n; i++) {
                            float kept_on = by[i] * was[i], g = d[i] + dy[here + i] * c, along = g * kept_on;
                            dc += dy[here + i] * (kept_on + u[i] * b);
                            db += g * u[i];
                            du[i] += g * b;
                            dlog[i] += along * a[i];
                            da[i] += along * dt[here + i];
                            d[i] = g * by[i] * stays;
                        }
                        dB[share + s] = db;
                        dC[share + s] = dc;
                    }
                    EACH(n) {
                        dx[here + i] = du[i] * dt[here + i];
                        ddt[here + i] = du[i] * x[here + i] + dlog[i];
                    }
                }
            }
        }
        free(before);
    }
}

/* RWKV-4: y = (sum_s e^(k[s] - (t - 1 - s) w) v[s] + e^(u + k) v) / (the same without v), s before t, for every channel.
   w (positive), u (width); k, v, y (rows, tokens, width); state (rows, 3, width): sum, weight and the exponent that both are
   scaled by, read and replaced; kept (rows, pieces, 3, width): the state before every PIECE tokens, or NULL. */
void wkv(const float *w, const float *u, const float *k, const float *v, const uint8_t *fresh, float *y, float *state, float *kept,
         int64_t rows, int64_t tokens, int64_t width, int threads) {
    int64_t blocks = (width + LANES - 1) / LANES;
    TEAM ROWS(rows * blocks) {
        int64_t line = row / blocks, lane = row % blocks * LANES, n = LEAST(LANES, width - lane);
        float *sum = state + line * 3 * width + lane, *weight = sum + width, *top = weight + width;
        for (int64_t t = 0; t < tokens; t++) {
            int64_t here = (line * tokens + t) * width + lane;
            if (kept && t % PIECE == 0)
                for (int64_t part = 0; part < 3; part++)
                    memcpy(kept + ((line * PIECES(tokens) + t / PIECE) * 3 + part) * width + lane, sum + part * width, n * sizeof(float));
            if (fresh && fresh[line * tokens + t]) EACH(n) sum[i] = weight[i] = 0.0f, top[i] = NOTHING;
            EACH(n) {
                float now = u[lane + i] + k[here + i], most = MOST(top[i], now), old = power(top[i] - most), new = power(now - most);
                y[here + i] = (old * sum[i] + new * v[here + i]) / (old * weight[i] + new);
                float faded = top[i] - w[lane + i];
                most = MOST(faded, k[here + i]);
                old = power(faded - most), new = power(k[here + i] - most);
                sum[i] = old * sum[i] + new * v[here + i];
                weight[i] = old * weight[i] + new;
                top[i] = most;
            }
        }
    }
}

/* dk, dv as k; dw, du (rows, width) start at zero. The gradient of the state is scaled by an exponent of its own, and that of
   its weight is kept for a fixed mean instead of a fixed sum: where the mean hardly moves the two would cancel to rounding. */
void wkv_backward(const float *dy, const float *w, const float *u, const float *k, const float *v, const uint8_t *fresh,
                  const float *kept, float *dw, float *du, float *dk, float *dv, int64_t rows, int64_t tokens, int64_t width, int threads) {
    int64_t blocks = (width + LANES - 1) / LANES;
    TEAM ROWS(rows * blocks) {
        int64_t line = row / blocks, lane = row % blocks * LANES, n = LEAST(LANES, width - lane);
        float before[PIECE][3][LANES], d_sum[LANES] = {0}, d_weight[LANES] = {0}, mean[LANES] = {0}, scale[LANES];
        EACH(n) scale[i] = NOTHING;
        for (int64_t piece = PIECES(tokens) - 1; piece >= 0; piece--) {
            int64_t first = piece * PIECE, last = LEAST(first + PIECE, tokens);
            for (int64_t t = first; t < last; t++) {
                float *sum = before[t - first][0], *weight = before[t - first][1], *top = before[t - first][2];
                int64_t past = (line * tokens + t - 1) * width + lane;
                const float *start = kept + (line * PIECES(tokens) + piece) * 3 * width + lane;
                if (t == first)
                    EACH(n) sum[i] = start[i], weight[i] = start[width + i], top[i] = start[2 * width + i];
                else
                    EACH(n) {
                        float faded = before[t - first - 1][2][i] - w[lane + i], most = MOST(faded, k[past + i]);
                        float old = power(faded - most), new = power(k[past + i] - most);
                        sum[i] = old * before[t - first - 1][0][i] + new * v[past + i];
                        weight[i] = old * before[t - first - 1][1][i] + new;
                        top[i] = most;
                    }
                if (fresh && fresh[line * tokens + t]) EACH(n) sum[i] = weight[i] = 0.0f, top[i] = NOTHING;
            }
            for (int64_t t = last - 1; t >= first; t--) {
                const float *sum = before[t - first][0], *weight = before[t - first][1], *top = before[t - first][2];
                int64_t here = (line * tokens + t) * width + lane;
                float *dwl = dw + line * width + lane, *dul = du + line * width + lane;
                EACH(n) {
                    float key = k[here + i], value = v[here + i], decay = w[lane + i], now = u[lane + i] + key, most = MOST(top[i], now);
                    float old = power(top[i] - most), new = power(now - most), total = old * weight[i] + new;
                    float y = (old * sum[i] + new * value) / total, was = weight[i] > 0.0f ? sum[i] / weight[i] : y;
                    float to_sum = dy[here + i] / total, at_once = new * to_sum * (value - y), later = power(key + scale[i]);
                    dv[here + i] = later * d_sum[i] + new * to_sum;
                    dk[here + i] = later * (d_sum[i] * (value - mean[i]) + d_weight[i]) + at_once;
                    dul[i] += at_once;
                    dwl[i] -= power(top[i] - decay + scale[i]) * weight[i] * ((was - mean[i]) * d_sum[i] + d_weight[i]);
                    float faded = scale[i] - decay, next = MOST(faded, -most), from_now = power(-most - next), stays = power(faded - next);
                    d_weight[i] = from_now * to_sum * (was - y) + stays * (d_weight[i] + (was - mean[i]) * d_sum[i]);
                    d_sum[i] = from_now * to_sum + stays * d_sum[i];
                    mean[i] = was;
                    scale[i] = next;
                }
                if (fresh && fresh[line * tokens + t]) EACH(n) d_sum[i] = d_weight[i] = 0.0f, scale[i] = NOTHING;
            }
        }
    }
}

/* RWKV-7: S = S diag(w) + S a b^T + v k^T, y = S r, for every head; S lies transposed, (keys, values).
   r, w, k, a, b (rows, tokens, heads, keys); v, y (rows, tokens, heads, values); state (rows, heads, keys, values) is read and
   replaced; kept (rows, heads, pieces, keys, values): the state before every PIECE tokens, or NULL. */
void delta_scan(const float *r, const float *w, const float *k, const float *v, const float *a, const float *b, const uint8_t *fresh,
                float *y, float *state, float *kept, int64_t rows, int64_t tokens, int64_t heads, int64_t keys, int64_t values,
                int threads) {
    int64_t size = keys * values;
    TEAM ROWS(rows * heads) {
        int64_t line = row / heads, head = row % heads;
        float *S = state + row * size;
        for (int64_t t = 0; t < tokens; t++) {
            int64_t token = line * tokens + t, at = (token * heads + head) * keys, to = (token * heads + head) * values;
            float erased[values], sum[values];
            if (kept && t % PIECE == 0) memcpy(kept + (row * PIECES(tokens) + t / PIECE) * size, S, size * sizeof(float));
            if (fresh && fresh[token]) memset(S, 0, size * sizeof(float));
            memset(erased, 0, sizeof(erased));
            memset(sum, 0, sizeof(sum));
            for (int64_t j = 0; j < keys; j++) EACH(values) erased[i] += S[j * values + i] * a[at + j];
            for (int64_t j = 0; j < keys; j++) {
                float *Sj = S + j * values, stay = w[at + j], back = b[at + j], key = k[at + j], read = r[at + j];
                EACH(values) {
                    Sj[i] = stay * Sj[i] + back * erased[i] + key * v[to + i];
                    sum[i] += read * Sj[i];
                }
            }
            memcpy(y + to, sum, sizeof(sum));
        }
    }
}

/* Gradients have the shapes of what they belong to. */
void delta_scan_backward(const float *dy, const float *r, const float *w, const float *k, const float *v, const float *a,
                         const float *b, const uint8_t *fresh, const float *kept, float *dr, float *dw, float *dk, float *dv,
                         float *da, float *db, int64_t rows, int64_t tokens, int64_t heads, int64_t keys, int64_t values, int threads) {
    int64_t size = keys * values;
    TEAM {
        float *before = malloc((PIECE + 1) * size * sizeof(float)), *dS = before + PIECE * size;
        ROWS(rows * heads) {
            int64_t line = row / heads, head = row % heads;
            float erased[values], d_erased[values], d_value[values];
            memset(dS, 0, size * sizeof(float));
            for (int64_t piece = PIECES(tokens) - 1; piece >= 0; piece--) {
                int64_t first = piece * PIECE, last = LEAST(first + PIECE, tokens);
                memcpy(before, kept + (row * PIECES(tokens) + piece) * size, size * sizeof(float));
                for (int64_t t = first; t < last; t++) {
                    int64_t token = line * tokens + t, at = (token * heads + head) * keys, to = (token * heads + head) * values;
                    float *S = before + (t - first) * size, *next = S + size;
                    if (fresh && fresh[token]) memset(S, 0, size * sizeof(float));
                    if (t + 1 == last) break;
                    memset(erased, 0, sizeof(erased));
                    for (int64_t j = 0; j < keys; j++) EACH(values) erased[i] += S[j * values + i] * a[at + j];
                    for (int64_t j = 0; j < keys; j++)
                        EACH(values) next[j * values + i] = w[at + j] * S[j * values + i] + b[at + j] * erased[i] + k[at + j] * v[to + i];
                }
                for (int64_t t = last - 1; t >= first; t--) {
                    int64_t token = line * tokens + t, at = (token * heads + head) * keys, to = (token * heads + head) * values;
                    const float *S = before + (t - first) * size;
                    float stays = fresh && fresh[token] ? 0.0f : 1.0f;
                    memset(erased, 0, sizeof(erased));
                    memset(d_erased, 0, sizeof(d_erased));
                    memset(d_value, 0, sizeof(d_value));
                    for (int64_t j = 0; j < keys; j++) EACH(values) erased[i] += S[j * values + i] * a[at + j];
                    for (int64_t j = 0; j < keys; j++) {
                        const float *Sj = S + j * values;
                        float *d = dS + j * values, stay = w[at + j], back = b[at + j], key = k[at + j], read = r[at + j];
                        float to_r = 0.0f, to_w = 0.0f, to_k = 0.0f, to_b = 0.0f;
                        PRAGMA(omp simd reduction(+ : to_r, to_w, to_k, to_b)) for (int64_t i = 0; i < values; i++) {
                            float g = d[i] + read * dy[to + i];
                            to_r += (stay * Sj[i] + back * erased[i] + key * v[to + i]) * dy[to + i];
                            to_w += g * Sj[i];
                            to_k += g * v[to + i];
                            to_b += g * erased[i];
                            d_value[i] += g * key;
                            d_erased[i] += g * back;
                            d[i] = g;
                        }
                        dr[at + j] = to_r, dw[at + j] = to_w, dk[at + j] = to_k, db[at + j] = to_b;
                    }
                    for (int64_t j = 0; j < keys; j++) {
                        const float *Sj = S + j * values;
                        float *d = dS + j * values, stay = w[at + j], from = a[at + j], to_a = 0.0f;
                        SUM(to_a, values) {
                            to_a += Sj[i] * d_erased[i];
                            d[i] = stays * (stay * d[i] + from * d_erased[i]);
                        }
                        da[at + j] = to_a;
                    }
                    memcpy(dv + to, d_value, sizeof(d_value));
                }
            }
        }
        free(before);
    }
}
