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
