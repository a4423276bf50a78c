/* Kernels that read and write each value once, where torch's operators take several passes.
 *
 * All numbers are float32. Sizes and strides count elements. The callers in Python have checked
 * every size and stride; nothing here is reached with others.
 *
 * The vectors are those of the compiler (GCC's vector extension), so that this file has no
 * instruction of one processor in it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 6
#define VECTORS 4
#elif defined(__AVX__)
#define LANES 8
#define ROWS 6
#define VECTORS 2
#else
#define LANES 4
#define ROWS 6
#define VECTORS 2
#endif
/* The columns of a tile of a matrix product. */
#define TILE (LANES * VECTORS)
/* The rows of scores that are held at once. */
#define HELD (4 * ROWS)
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE vec all(float value) { return value - (vec){0}; }
INLINE vec choose(ints mask, vec yes, vec no) {
  return (vec)(((ints)yes & mask) | ((ints)no & ~mask));
}
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }

#if LANES == 16
#define COUNTED ((ints){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif LANES == 8
#define COUNTED ((ints){0, 1, 2, 3, 4, 5, 6, 7})
#else
#define COUNTED ((ints){0, 1, 2, 3})
#endif

/* The lanes of two vectors, one behind the other, in the order of the indices. */
INLINE vec pick(vec a, vec b, ints order) {
#if defined(__clang__)
  float from[2 * LANES], to[LANES];
  memcpy(from, &a, sizeof a);
  memcpy(from + LANES, &b, sizeof b);
  for (int i = 0; i < LANES; i++) to[i] = from[order[i]];
  memcpy(&a, to, sizeof a);
  return a;
#else
  return __builtin_shuffle(a, b, order);
#endif
}

INLINE float sum_of(vec v) {
#pragma GCC unroll 4
  for (int step = LANES / 2; step; step /= 2) v += pick(v, v, COUNTED ^ step);
  return v[0];
}

INLINE float largest_of(vec v) {
#pragma GCC unroll 4
  for (int step = LANES / 2; step; step /= 2) v = larger(pick(v, v, COUNTED ^ step), v);
  return v[0];
}

/* The exponential: 2^n times a polynomial on half a unit around zero. NaN stays NaN. */
INLINE vec exponential(vec x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
  vec inside = choose(x < all(-87.3f), all(-87.3f), choose(x > all(88.7f), all(88.7f), x));
  vec shifted = inside * 1.44269504088896341f + magic;
  vec n = shifted - magic;
  vec r = inside - n * 0.693359375f + n * 2.12194440e-4f;
  vec p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  ints exponent = ((ints)shifted - (ints)all(magic) + 127) << 23;
  vec result = p * (vec)exponent;
  result = choose(x < all(-87.3f), all(0.0f), result);
  return choose(x > all(88.7f), all(__builtin_inff()), result);
}

/* sums[r][j] += sum over k of a[r][k] * b[k][j]. */
INLINE void accumulate(vec sums[ROWS][VECTORS], const int rows, const int vectors,
                       const float *restrict a, int64_t a_row, const float *restrict b,
                       int64_t b_row, int64_t depth) {
  for (int64_t k = 0; k < depth; k++) {
    vec columns[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) columns[v] = *(const vec *)(b + k * b_row + v * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      vec one = all(a[r * a_row + k]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sums[r][v] += one * columns[v];
    }
  }
}

/* One tile of a product: c[r][j] = factor[r] * sum over k of a[r][k] * b[k][j]. */
INLINE void tile(const int rows, const int vectors, const float *a, int64_t a_row, const float *b,
                 int64_t b_row, int64_t depth, float *c, int64_t c_row, const float *factor) {
  vec sums[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sums[r][v] = all(0.0f);
  accumulate(sums, rows, vectors, a, a_row, b, b_row, depth);
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      *(vec *)(c + r * c_row + v * LANES) = sums[r][v] * factor[r];
}

/* `tile` for any number of rows and vectors; the compiler makes code for each number of rows. */
static void product(int rows, int vectors, const float *a, int64_t a_row, const float *b,
                    int64_t b_row, int64_t depth, float *c, int64_t c_row, const float *factor) {
#define CASE(n)                                                               \
  case n:                                                                     \
    if (vectors == VECTORS)                                                   \
      tile(n, VECTORS, a, a_row, b, b_row, depth, c, c_row, factor);          \
    else                                                                      \
      for (int v = 0; v < vectors; v++, b += LANES, c += LANES)               \
        tile(n, 1, a, a_row, b, b_row, depth, c, c_row, factor);              \
    break
  switch (rows) {
    CASE(1);
    CASE(2);
    CASE(3);
    CASE(4);
    CASE(5);
    CASE(6);
  }
#undef CASE
}

INLINE int64_t up_to(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

/* NaN in a lane if a number of these rows is not finite, since its product with zero is NaN. */
static vec traces(const float *rows, int64_t row, int64_t count, int64_t size) {
  vec found[4] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
  for (int64_t r = 0; r < count; r++, rows += row) {
    int64_t i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES)
      for (int j = 0; j < 4; j++) found[j] += *(const vec *)(rows + i + j * LANES) * 0.0f;
    for (; i + LANES <= size; i += LANES) found[0] += *(const vec *)(rows + i) * 0.0f;
    for (; i < size; i++) found[1][0] += rows[i] * 0.0f;
  }
  return found[0] + found[1] + found[2] + found[3];
}

/* Transposes a square of LANES rows: quarters change places, then quarters of these, and so on. */
INLINE void turn_square(const float *from, int64_t row, float *to, int64_t to_row) {
  vec rows[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) rows[i] = *(const vec *)(from + i * row);
#pragma GCC unroll 4
  for (int step = LANES / 2; step; step /= 2) {
    const ints upper = (COUNTED & step) != 0;
    const ints low = (upper & (COUNTED - step + LANES)) | (~upper & COUNTED);
    const ints high = (upper & (COUNTED + LANES)) | (~upper & (COUNTED + step));
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
      if (!(i & step)) {
        vec a = rows[i], b = rows[i + step];
        rows[i] = pick(a, b, low);
        rows[i + step] = pick(a, b, high);
      }
  }
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) *(vec *)(to + i * to_row) = rows[i];
}

/* The keys, transposed, in panels of TILE columns: panels[s / TILE][d][s % TILE]. */
static void turn(const float *keys, int64_t row, int64_t count, int64_t width, float *panels) {
  for (int64_t first = 0; first < count; first += TILE, panels += width * TILE) {
    const int64_t filled = count - first < TILE ? count - first : TILE;
    if (filled < TILE) memset(panels, 0, sizeof(float) * width * TILE);
    int64_t s = 0;
    for (; s + LANES <= filled; s += LANES) {
      const float *from = keys + (first + s) * row;
      int64_t d = 0;
      for (; d + LANES <= width; d += LANES)
        turn_square(from + d, row, panels + d * TILE + s, TILE);
      for (; d < width; d++)
        for (int i = 0; i < LANES; i++) panels[d * TILE + s + i] = from[i * row + d];
    }
    for (; s < filled; s++)
      for (int64_t d = 0; d < width; d++) panels[d * TILE + s] = keys[(first + s) * row + d];
  }
}

/* The scores of one query become weights that are not yet divided by their sum.
 *
 * seen: the keys that the query sees; room: the columns that the product behind reads.
 * Returns one by their sum, or zero where a mask hides all keys.
 */
INLINE float weigh(float *scores, int64_t seen, int64_t room, const void *mask, int64_t mask_step,
                   int mask_is_bool) {
  const float hidden = -__builtin_inff();
  const int64_t end = up_to(seen, LANES);
  for (int64_t i = seen; i < end; i++) scores[i] = hidden;
  for (int64_t i = end; i < room; i++) scores[i] = 0.0f;
  if (mask && mask_step == 1 && !mask_is_bool) {
    const float *added = mask;
    int64_t i = 0;
    for (; i + LANES <= seen; i += LANES) *(vec *)(scores + i) += *(const vec *)(added + i);
    for (; i < seen; i++) scores[i] += added[i];
  } else if (mask && mask_is_bool) {
    const uint8_t *shown = mask;
    int64_t i = 0;
    if (mask_step == 1)
      for (; i + LANES <= seen; i += LANES) {
        const ints wide = __builtin_convertvector(*(const bytes *)(shown + i), ints);
        *(vec *)(scores + i) = choose(wide != 0, *(vec *)(scores + i), all(hidden));
      }
    for (; i < seen; i++) scores[i] = shown[i * mask_step] ? scores[i] : hidden;
  } else if (mask) {
    for (int64_t i = 0; i < seen; i++) scores[i] += ((const float *)mask)[i * mask_step];
  }
  vec most = all(hidden);
  for (int64_t i = 0; i < end; i += LANES) most = larger(*(vec *)(scores + i), most);
  float top = largest_of(most);
  if (top == hidden) top = 0;
  vec total = all(0.0f);
  for (int64_t i = 0; i < end; i += LANES) {
    vec weight = exponential(*(vec *)(scores + i) - top);
    *(vec *)(scores + i) = weight;
    total += weight;
  }
  float sum = sum_of(total);
  return sum == 0 ? 0.0f : 1.0f / sum;
}

/* The keys up to the last one that a query sees. */
INLINE int64_t keys_seen(const void *mask, int64_t step, int mask_is_bool, int64_t count) {
  const float hidden = -__builtin_inff();
  if (mask_is_bool) {
    const uint8_t *shown = mask;
    while (count && !shown[(count - 1) * step]) count--;
  } else {
    const float *added = mask;
    while (count && added[(count - 1) * step] == hidden) count--;
  }
  return count;
}

/* Scaled dot-product attention.
 *
 * sizes: batch, heads, queries, keys, width of a key, width of a value, heads that share a key.
 * strides: batch, head and position of queries, keys, values and results; then batch, head, query
 * and key of the mask. The numbers of one position lie side by side.
 *
 * Returns 1, and writes nothing of use, if there is no memory, or a query, key or value is not
 * finite: which results are NaN then is torch's matter.
 */
int symfx_attention(const float *queries, const float *keys, const float *values, float *results,
                    const void *mask, int mask_is_bool, int causal, float scale,
                    const int64_t *sizes, const int64_t *strides, int threads) {
  const int64_t batches = sizes[0], heads = sizes[1], length = sizes[2], count = sizes[3],
                width = sizes[4], deep = sizes[5], sharing = sizes[6];
  const int64_t padded = up_to(count, TILE), deep_padded = up_to(deep, LANES);
  const int direct = deep % LANES == 0;
  /* Each piece of work is the queries of one head, or some of them where there are few heads. */
  int64_t pieces = 1;
  while (pieces * batches * heads < 3 * threads && threads > 1 && length / pieces > 2 * HELD)
    pieces++;
  const int64_t each = up_to((length + pieces - 1) / pieces, ROWS);
  const int64_t work = batches * heads * pieces;
  int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const int64_t room =
        padded * width + HELD * padded + HELD * deep_padded + count * deep_padded;
    float *panels = aligned_alloc(64, up_to(sizeof(float) * room, 64));
    float *scores = panels + padded * width, *mixed = scores + HELD * padded,
          *wide = mixed + HELD * deep_padded, factor[HELD];
    const char *hides[HELD];
    if (!panels) {
#pragma omp atomic write
      failed = 1;
    }
    int64_t turned = -1;
#pragma omp for schedule(dynamic, 1)
    for (int64_t piece = 0; piece < work; piece++) {
      int stop;
#pragma omp atomic read
      stop = failed;
      if (stop || !panels) continue;
      const int64_t batch = piece / pieces / heads, head = piece / pieces % heads,
                    first = piece % pieces * each,
                    last = first + each < length ? first + each : length;
      const float *q = queries + batch * strides[0] + head * strides[1];
      const float *k = keys + batch * strides[3] + head / sharing * strides[4];
      const float *v = values + batch * strides[6] + head / sharing * strides[7];
      float *to = results + batch * strides[9] + head * strides[10];
      int64_t v_row = strides[8];
      vec odd = traces(q + first * strides[2], strides[2], last - first, width);
      if (turned != batch * heads + head / sharing) {
        turned = batch * heads + head / sharing;
        odd += traces(k, strides[5], count, width) + traces(v, v_row, count, deep);
        turn(k, strides[5], count, width, panels);
        /* Close together, they do not push each other out of the cache. */
        for (int64_t s = 0; s < count; s++) {
          memcpy(wide + s * deep_padded, v + s * v_row, sizeof(float) * deep);
          memset(wide + s * deep_padded + deep, 0, sizeof(float) * (deep_padded - deep));
        }
      }
      const float trace = sum_of(odd);
      if (trace != trace) {
#pragma omp atomic write
        failed = 1;
        continue;
      }
      v = wide, v_row = deep_padded;
      for (int64_t row = first; row < last; row += HELD) {
        const int rows = last - row < HELD ? (int)(last - row) : HELD;
        int64_t reach = 0, seen[HELD];
        for (int r = 0; r < rows; r++) {
          const int64_t at = row + r;
          seen[r] = causal && at + 1 < count ? at + 1 : count;
          hides[r] = NULL;
          if (mask) {
            hides[r] = (const char *)mask + (mask_is_bool ? 1 : sizeof(float)) *
                       (batch * strides[12] + head * strides[13] + at * strides[14]);
            seen[r] = keys_seen(hides[r], strides[15], mask_is_bool, count);
          }
          if (seen[r] > reach) reach = seen[r];
        }
        for (int r = 0; r < rows; r++) factor[r] = scale;
        for (int64_t s = 0; s < reach; s += TILE)
          for (int r = 0; r < rows; r += ROWS)
            product(rows - r < ROWS ? rows - r : ROWS,
                    reach - s < TILE ? (int)(up_to(reach - s, LANES) / LANES) : VECTORS, q + (row + r) * strides[2],
                    strides[2], panels + s * width, TILE, width, scores + r * padded + s, padded,
                    factor + r);
        for (int r = 0; r < rows; r++)
          factor[r] = weigh(scores + r * padded, seen[r], reach, hides[r], strides[15],
                            mask_is_bool);
        for (int64_t d = 0; d < deep_padded; d += TILE) {
          const int vectors = deep_padded - d < TILE ? (int)((deep_padded - d) / LANES) : VECTORS;
          for (int r = 0; r < rows; r += ROWS) {
            const int some = rows - r < ROWS ? rows - r : ROWS;
            if (direct)
              product(some, vectors, scores + r * padded, padded, v + d, v_row, reach,
                      to + (row + r) * strides[11] + d, strides[11], factor + r);
            else
              product(some, vectors, scores + r * padded, padded, v + d, v_row, reach,
                      mixed + r * deep_padded + d, deep_padded, factor + r);
          }
        }
        if (!direct)
          for (int r = 0; r < rows; r++)
            memcpy(to + (row + r) * strides[11], mixed + r * deep_padded, sizeof(float) * deep);
      }
    }
    free(panels);
  }
  return failed;
}

/* The columns of a tile of a product: weights are packed in panels of so many. */
int symfx_columns(void) { return TILE; }

enum { NOTHING, RELU, SWISH, GELU, GELU_TANH };

/* The error function, off by at most 4e-7: a quotient of polynomials of x^2, fitted to |x| < 4. */
INLINE vec error_function(vec x) {
  vec t = x * x;
  vec p = all(1.974529596e-06f);
  p = p * t + 2.880175598e-04f;
  p = p * t + 4.003613256e-03f;
  p = p * t + 5.346740037e-02f;
  p = p * t + 1.962514222e-01f;
  p = p * t + 1.128378987e+00f;
  vec q = all(3.747644587e-05f);
  q = q * t + 1.216306468e-03f;
  q = q * t + 1.544441283e-02f;
  q = q * t + 1.164770573e-01f;
  q = q * t + 5.072544813e-01f;
  q = q * t + 1.000000000e+00f;
  vec found = x * p / q;
  found = choose(x > all(4.0f), all(1.0f), found);
  return choose(x < all(-4.0f), all(-1.0f), found);
}

/* The activation behind a linear layer. NaN stays NaN. */
INLINE vec activated(vec x, int post) {
  if (post == RELU) return choose(x < all(0.0f), all(0.0f), x);
  if (post == SWISH) return x / (exponential(-x) + 1.0f);
  if (post == GELU) return x * 0.5f * (1.0f + error_function(x * 0.70710678118654752f));
  if (post == GELU_TANH) {
    /* 1 + tanh(u), written as a quotient */
    vec u = (x + x * x * x * 0.044715f) * 0.7978845608028654f;
    return x * 0.5f * (2.0f - 2.0f / (exponential(u + u) + 1.0f));
  }
  return x;
}

/* A tile of a linear layer: it starts from the bias, or from what it held before. */
INLINE void linear_tile(const int rows, const float *restrict x, int64_t x_row,
                        const float *restrict panel, int64_t depth, float *restrict to,
                        int64_t to_row, const float *restrict bias) {
  vec sums[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++)
      sums[r][v] = *(const vec *)((bias ? bias : to + r * to_row) + v * LANES);
  accumulate(sums, rows, VECTORS, x, x_row, panel, TILE, depth);
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) *(vec *)(to + r * to_row + v * LANES) = sums[r][v];
}

/* The sum and the activation behind a tile. */
INLINE void finish(int rows, float *to, int64_t to_row, const float *other, int64_t other_row,
                   int vectors, int post) {
  for (int r = 0; r < rows; r++, to += to_row, other += other ? other_row : 0)
    for (int v = 0; v < vectors * LANES; v += LANES) {
      vec value = *(vec *)(to + v);
      if (other) value += *(const vec *)(other + v);
      *(vec *)(to + v) = activated(value, post);
    }
}

/* The depth that is computed at once, so that a panel of it stays in the cache. */
#define DEPTH 512

/* Some rows of one panel of a linear layer. */
static void linear_block(const float *x, int64_t x_row, const float *panel, int64_t depth,
                         const float *bias, const float *other, float *to, int64_t to_row,
                         int64_t rows, int width, int post) {
  float held[ROWS * TILE], added[ROWS * TILE];
  for (int64_t start = 0; start < depth || start == 0; start += DEPTH) {
    const int64_t some = depth - start < DEPTH ? depth - start : DEPTH;
    const int last = start + some >= depth;
    for (int64_t r = 0; r < rows; r += ROWS) {
      const int count = rows - r < ROWS ? (int)(rows - r) : ROWS;
      float *into = to + r * to_row;
      const float *from = x + r * x_row + start, *begin = start ? NULL : bias;
      const float *sum = other ? other + r * to_row : NULL;
      int64_t into_row = to_row, sum_row = to_row;
      if (width < TILE) {
        /* The result has no room for the whole tile. */
        if (start)
          for (int i = 0; i < count; i++)
            memcpy(held + i * TILE, into + i * to_row, sizeof(float) * width);
        if (other && last) {
          for (int i = 0; i < count; i++)
            memcpy(added + i * TILE, sum + i * to_row, sizeof(float) * width);
          sum = added, sum_row = TILE;
        }
        into = held, into_row = TILE;
      }
      switch (count) {
#define CASE(n)                                                                        \
  case n:                                                                              \
    linear_tile(n, from, x_row, panel + start * TILE, some, into, into_row, begin);    \
    break
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#undef CASE
      }
      if (last && (other || post)) finish(count, into, into_row, sum, sum_row, VECTORS, post);
      if (width < TILE)
        for (int i = 0; i < count; i++)
          memcpy(to + (r + i) * to_row, held + i * TILE, sizeof(float) * width);
    }
  }
}

/* A linear layer: activation(x W + bias + other), where other may be NULL.
 *
 * The columns of W lie in panels: panels[n / TILE][k][n % TILE], and the last one is filled up with
 * zeros, as is the bias. x, other and the result are contiguous.
 */
void symfx_linear(const float *x, const float *panels, const float *bias, const float *other,
                  float *to, int64_t rows, int64_t depth, int64_t width, int post, int threads) {
  const int64_t columns = (width + TILE - 1) / TILE;
  int64_t each = up_to(131072 / (depth < DEPTH ? depth + 1 : DEPTH), ROWS);
  /* Enough pieces of work for all threads. */
  while (threads > 1 && each > 2 * ROWS && columns * ((rows + each - 1) / each) < 4 * threads)
    each = up_to(each / 2, ROWS);
  const int64_t blocks = (rows + each - 1) / each;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1 && rows * depth * width > 65536)
  for (int64_t piece = 0; piece < blocks * columns; piece++) {
    const int64_t first = piece / columns * each, n = piece % columns * TILE;
    const int64_t some = rows - first < each ? rows - first : each;
    linear_block(x + first * depth, depth, panels + n * depth, depth, bias + n,
                 other ? other + first * width + n : NULL, to + first * width + n, width, some,
                 width - n < TILE ? (int)(width - n) : TILE, post);
  }
}

/* A row of LayerNorm: (x - mean) / sqrt(variance + eps) * weight + bias. */
INLINE void center(const float *x, int64_t size, float eps, const float *weight, const float *bias,
                   float *to) {
  vec total = all(0.0f), squares = all(0.0f);
  float rest = 0, rest_squares = 0;
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) total += *(const vec *)(x + i);
  for (int64_t j = i; j < size; j++) rest += x[j];
  const float mean = (sum_of(total) + rest) / size;
  for (i = 0; i + LANES <= size; i += LANES) {
    vec off = *(const vec *)(x + i) - mean;
    squares += off * off;
  }
  for (int64_t j = i; j < size; j++) rest_squares += (x[j] - mean) * (x[j] - mean);
  const float variance = (sum_of(squares) + rest_squares) / size;
  const float scale = 1.0f / __builtin_sqrtf(variance + eps);
  for (i = 0; i + LANES <= size; i += LANES) {
    vec y = (*(const vec *)(x + i) - mean) * scale;
    if (weight) y *= *(const vec *)(weight + i);
    if (bias) y += *(const vec *)(bias + i);
    *(vec *)(to + i) = y;
  }
  for (; i < size; i++) {
    float y = (x[i] - mean) * scale;
    if (weight) y *= weight[i];
    if (bias) y += bias[i];
    to[i] = y;
  }
}

/* A row of RMSNorm: x / sqrt(mean of squares + eps) * weight. */
INLINE void scale_row(const float *x, int64_t size, float eps, const float *weight, float *to) {
  vec squares = all(0.0f);
  float rest = 0;
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) squares += *(const vec *)(x + i) * *(const vec *)(x + i);
  for (int64_t j = i; j < size; j++) rest += x[j] * x[j];
  const float scale = 1.0f / __builtin_sqrtf((sum_of(squares) + rest) / size + eps);
  for (i = 0; i + LANES <= size; i += LANES) {
    vec y = *(const vec *)(x + i) * scale;
    if (weight) y *= *(const vec *)(weight + i);
    *(vec *)(to + i) = y;
  }
  for (; i < size; i++) to[i] = x[i] * scale * (weight ? weight[i] : 1.0f);
}

/* Normalizes rows that lie one behind the other. */
void symfx_normalize(const float *x, int64_t rows, int64_t size, float eps, const float *weight,
                     const float *bias, int centers, float *to, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * size > 16384)
  for (int64_t row = 0; row < rows; row++) {
    if (centers)
      center(x + row * size, size, eps, weight, bias, to + row * size);
    else
      scale_row(x + row * size, size, eps, weight, to + row * size);
  }
}

/* Rotary positions: x * cos + (-second half, first half) * sin.
 *
 * sizes: batch, heads, positions, width, which is even. strides: batch, head and position of x and
 * of the result; then batch and position of cos and sin.
 */
void symfx_rotate(const float *restrict x, const float *restrict cos, const float *restrict sin,
                  float *restrict to,
                  const int64_t *sizes, const int64_t *strides, int threads) {
  const int64_t batches = sizes[0], heads = sizes[1], length = sizes[2], half = sizes[3] / 2;
#pragma omp parallel for num_threads(threads) if (threads > 1 && batches * length * heads * half > 8192)
  for (int64_t place = 0; place < batches * length; place++) {
    const int64_t batch = place / length, at = place % length;
    const float *c = cos + batch * strides[6] + at * strides[7];
    const float *s = sin + batch * strides[8] + at * strides[9];
    for (int64_t head = 0; head < heads; head++) {
      const float *from = x + batch * strides[0] + head * strides[1] + at * strides[2];
      float *into = to + batch * strides[3] + head * strides[4] + at * strides[5];
      int64_t i = 0;
      for (; i + LANES <= half; i += LANES) {
        const vec one = *(const vec *)(from + i), two = *(const vec *)(from + half + i);
        *(vec *)(into + i) = one * *(const vec *)(c + i) - two * *(const vec *)(s + i);
        *(vec *)(into + half + i) =
            two * *(const vec *)(c + half + i) + one * *(const vec *)(s + half + i);
      }
      for (; i < half; i++) {
        const float one = from[i], two = from[half + i];
        into[i] = one * c[i] - two * s[i];
        into[half + i] = two * c[half + i] + one * s[half + i];
      }
    }
  }
}

/* The channels that are computed at once. */
int symfx_lanes(void) { return LANES; }

/* Some channels of one row of a depthwise convolution. */
INLINE void depthwise_row(const int down, const int across, const float *x, const float *weight,
                          const float *bias, float *to, const int64_t *sizes, int64_t y, float low,
                          float high) {
  const int64_t channels = sizes[1], height = sizes[2], width = sizes[3], out = sizes[5],
                step = sizes[9], pad = sizes[11], gap_down = sizes[12], gap = sizes[13];
  for (int64_t at = 0; at < out; at++, to += channels) {
    vec sum = *(const vec *)bias;
    const int64_t left = at * step - pad;
    const int inside = left >= 0 && left + (across - 1) * gap < width;
    for (int ky = 0; ky < down; ky++) {
      const int64_t row = y + ky * gap_down;
      if (row < 0 || row >= height) continue;
      const float *line = x + (row * width + left) * channels;
      const float *numbers = weight + ky * across * channels;
      if (inside) {
#pragma GCC unroll 5
        for (int kx = 0; kx < across; kx++)
          sum += *(const vec *)(line + kx * gap * channels) *
                 *(const vec *)(numbers + kx * channels);
      } else {
        for (int kx = 0; kx < across; kx++)
          if (left + kx * gap >= 0 && left + kx * gap < width)
            sum += *(const vec *)(line + kx * gap * channels) *
                   *(const vec *)(numbers + kx * channels);
      }
    }
    sum = choose(sum < all(low), all(low), sum);
    *(vec *)to = choose(sum > all(high), all(high), sum);
  }
}

/* A convolution of each channel alone, clamped; NaN stays NaN. Images are channels last.
 *
 * sizes: images, channels, height, width, height and width of the result, then down and across: the
 * size of the kernel, the stride, the padding, the dilation. weight: [down][across][channels]; the
 * channels are a multiple of LANES.
 */
void symfx_depthwise(const float *x, const float *weight, const float *bias, float *to,
                     const int64_t *sizes, float low, float high, int threads) {
  const int64_t channels = sizes[1], rows = sizes[4], line = sizes[5] * channels;
#pragma omp parallel for num_threads(threads) if (threads > 1 && sizes[0] * rows * line > 16384)
  for (int64_t row = 0; row < sizes[0] * rows; row++) {
    const float *image = x + row / rows * sizes[2] * sizes[3] * channels;
    const int64_t y = row % rows * sizes[8] - sizes[10];
    for (int64_t c = 0; c < channels; c += LANES) {
      if (sizes[6] == 3 && sizes[7] == 3)
        depthwise_row(3, 3, image + c, weight + c, bias + c, to + row * line + c, sizes, y, low,
                      high);
      else
        depthwise_row((int)sizes[6], (int)sizes[7], image + c, weight + c, bias + c,
                      to + row * line + c, sizes, y, low, high);
    }
  }
}

/* Numbers as bytes: x is about (byte - zero) * step, where zero is a byte too.
 *
 * The bytes span the numbers' least to largest, and zero. Returns 1, and writes nothing of use, if a
 * number is not finite, or the span is no float.
 */
int symfx_quantize(const float *x, int64_t count, uint8_t *result, float *step, int32_t *zero,
                   int threads) {
  const int64_t whole = count - count % LANES;
  float low = 0.0f, high = 0.0f, odd = 0.0f;
#pragma omp parallel num_threads(threads) reduction(min : low) reduction(max : high) \
    reduction(+ : odd) if (threads > 1)
  {
    vec least = all(0.0f), most = all(0.0f), found = all(0.0f);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < whole; i += LANES) {
      const vec v = *(const vec *)(x + i);
      found += v * 0.0f;
      most = larger(v, most);
      least = choose(v < least, v, least);
    }
    odd += sum_of(found);
    high = largest_of(most);
    low = -largest_of(-least);
  }
  for (int64_t i = whole; i < count; i++) {
    odd += x[i] * 0.0f;
    high = x[i] > high ? x[i] : high;
    low = x[i] < low ? x[i] : low;
  }
  float size = (high - low) / 255.0f;
  if (odd != odd || size * 0.0f != 0.0f) return 1;
  if (size < 1e-30f) size = 1e-30f;
  const float inverse = 1.0f / size, magic = 12582912.0f; /* see exponential */
  const float middle = (-low * inverse + magic) - magic;
  *step = size;
  *zero = (int32_t)middle;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < whole; i += LANES) {
    vec v = *(const vec *)(x + i) * inverse + middle;
    v = larger(v, all(0.0f));
    v = choose(v > all(255.0f), all(255.0f), v) + magic;
    *(bytes *)(result + i) = __builtin_convertvector((ints)v & 255, bytes);
  }
  for (int64_t i = whole; i < count; i++) {
    float v = x[i] * inverse + middle;
    v = v < 0.0f ? 0.0f : v > 255.0f ? 255.0f : v;
    result[i] = (uint8_t)((v + magic) - magic);
  }
  return 0;
}
