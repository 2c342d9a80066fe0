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
