/* What the compiled passes share: the type of activations, loops over rows and channels, and e^x without a library call.
   `real` is float, or bfloat16 held in 16 bits. Rows are shared out statically among threads, so that equal numbers of
   threads give equal bits. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef BF16
typedef uint16_t real;
static inline float get(real bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}
static inline real put(float x) { /* round to nearest, ties to even; NaN stays NaN */
    uint32_t wide;
    memcpy(&wide, &x, 4);
    return x != x ? 0x7fc0 : (real)((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
}
#else
typedef float real;
static inline float get(real x) { return x; }
static inline real put(float x) { return x; }
#endif

#define PRAGMA(text) _Pragma(#text)
#define ROWS(n) _Pragma("omp for schedule(static)") for (int64_t row = 0; row < (n); row++)
#define EACH(n) _Pragma("omp simd") for (int64_t i = 0; i < (n); i++)
#define SUM(total, n) PRAGMA(omp simd reduction(+ : total)) for (int64_t i = 0; i < (n); i++)
#define TEAM _Pragma("omp parallel num_threads(threads)")

int omp_get_thread_num(void);

/* e^x to two units in the last place (Cody-Waite reduction, degree 6), without a library call so that loops vectorise. */
static inline float power(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + power(-x)); }
