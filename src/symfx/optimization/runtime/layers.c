/* Linear layers, norms, rotary positions, depthwise convolutions and bytes, one function each.
 *
 * kernels.c comes before this file; see there for sizes and strides.
 */
/* The columns of a tile of a product: weights are packed in panels of so many. */
int symfx_columns(void) { return TILE; }

enum { NOTHING, RELU, SWISH, GELU, GELU_TANH, CLAMP };

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
INLINE vec activated(vec x, int post, float low, float high) {
  if (post == CLAMP) {
    x = choose(x < all(low), all(low), x);
    return choose(x > all(high), all(high), x);
  }
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
INLINE void linear_tile(const int rows, const int vectors, const float *restrict x, int64_t x_row,
                        const float *restrict panel, int64_t depth, float *restrict to,
                        int64_t to_row, const float *restrict bias) {
  vec sums[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sums[r][v] = *(const vec *)((bias ? bias : to + r * to_row) + v * LANES);
  accumulate(sums, rows, vectors, x, x_row, panel, TILE, depth);
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) *(vec *)(to + r * to_row + v * LANES) = sums[r][v];
}

typedef void tile_function(const float *x, int64_t x_row, const float *panel, int64_t depth,
                           float *to, int64_t to_row, const float *bias);

/* Each in a function of its own: inlined, the pointers would not all stay in registers. */
#define MAKE(rows, vectors)                                                                   \
  static __attribute__((noinline)) void tile_##rows##_##vectors(                              \
      const float *x, int64_t x_row, const float *panel, int64_t depth, float *to,            \
      int64_t to_row, const float *bias) {                                                    \
    linear_tile(rows, vectors, x, x_row, panel, depth, to, to_row, bias);                     \
  }
#define MAKE_ALL(vectors)                                                                     \
  MAKE(1, vectors) MAKE(2, vectors) MAKE(3, vectors)                                          \
  MAKE(4, vectors) MAKE(5, vectors) MAKE(6, vectors)
#define NAMES(vectors)                                                                        \
  {tile_1_##vectors, tile_2_##vectors, tile_3_##vectors,                                      \
   tile_4_##vectors, tile_5_##vectors, tile_6_##vectors}
MAKE_ALL(1)
MAKE_ALL(2)
#if VECTORS == 4
MAKE_ALL(3)
MAKE_ALL(4)
#endif
static tile_function *const TILES[VECTORS][ROWS] = {
    NAMES(1), NAMES(2),
#if VECTORS == 4
    NAMES(3), NAMES(4),
#endif
};
#undef MAKE
#undef MAKE_ALL
#undef NAMES

/* The sum and the activation behind a tile. */
INLINE void finish(int rows, float *to, int64_t to_row, const float *other, int64_t other_row,
                   int vectors, int post, float low, float high) {
  for (int r = 0; r < rows; r++, to += to_row, other += other ? other_row : 0)
    for (int v = 0; v < vectors * LANES; v += LANES) {
      vec value = *(vec *)(to + v);
      if (other) value += *(const vec *)(other + v);
      *(vec *)(to + v) = activated(value, post, low, high);
    }
}

/* The depth that is computed at once, so that a panel of it stays in the cache. */
#define DEPTH 512

/* Some rows of one panel of a linear layer. */
static void linear_block(const float *x, int64_t x_row, const float *panel, int64_t depth,
                         const float *bias, const float *other, float *to, int64_t to_row,
                         int64_t rows, int width, int post, float low, float high,
                         const float *next) {
  const int64_t turns = (rows + ROWS - 1) / ROWS * ((depth + DEPTH - 1) / DEPTH);
  const int64_t ahead = turns ? up_to((depth * TILE + turns - 1) / turns, 16) : 0;
  const float *end = next + depth * TILE;
  const int vectors = (width + LANES - 1) / LANES;
  /* The result may have no room for whole vectors. */
  const int direct = width % LANES == 0;
  float held[ROWS * TILE], added[ROWS * TILE];
  for (int64_t start = 0; start < depth || start == 0; start += DEPTH) {
    const int64_t some = depth - start < DEPTH ? depth - start : DEPTH;
    const int last = start + some >= depth;
    for (int64_t r = 0; r < rows; r += ROWS) {
      const int count = rows - r < ROWS ? (int)(rows - r) : ROWS;
      float *into = to + r * to_row;
      const float *begin = start ? NULL : bias;
      const float *sum = other ? other + r * to_row : NULL;
      int64_t into_row = to_row, sum_row = to_row;
      /* The weights of a model come from a slower cache than those of this panel. */
      if (next)
        for (const float *stop = next + ahead; next < stop && next < end; next += 16)
          __builtin_prefetch(next, 0, 2);
      if (!direct) {
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
      TILES[vectors - 1][count - 1](x + r * x_row + start, x_row, panel + start * TILE, some, into,
                                    into_row, begin);
      if (last && (other || post))
        finish(count, into, into_row, sum, sum_row, vectors, post, low, high);
      if (!direct)
        for (int i = 0; i < count; i++)
          memcpy(to + (r + i) * to_row, held + i * TILE, sizeof(float) * width);
    }
  }
}

/* A linear layer: activation(x W + bias + other), where other may be NULL.
 *
 * The columns of W lie in panels: panels[n / TILE][k][n % TILE], and the last one is filled up with
 * zeros, as is the bias. x, other and the result are contiguous. behind: numbers that are read soon
 * afterwards, or NULL.
 */
void symfx_linear(const float *x, const float *panels, const float *bias, const float *other,
                  float *to, int64_t rows, int64_t depth, int64_t width, int post, float low,
                  float high, int threads, const float *behind) {
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
                 width - n < TILE ? (int)(width - n) : TILE, post, low, high,
                 n + TILE < width ? panels + (n + TILE) * depth : behind);
  }
}

/* A linear layer of some rows, by this thread alone; see symfx_linear. */
static void linear_rows(const float *x, const float *panels, const float *bias, const float *other,
                        float *to, int64_t rows, int64_t depth, int64_t width, int post, float low,
                        float high) {
  for (int64_t n = 0; n < width; n += TILE)
    linear_block(x, depth, panels + n * depth, depth, bias + n, other ? other + n : NULL, to + n,
                 width, rows, width - n < TILE ? (int)(width - n) : TILE, post, low, high,
                 n + TILE < width ? panels + (n + TILE) * depth : NULL);
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

INLINE vec clamped(vec x, float low, float high) {
  x = choose(x < all(low), all(low), x);
  return choose(x > all(high), all(high), x);
}

/* A pixel of a depthwise convolution, where some of the kernel may lie outside of the image. */
INLINE vec depthwise_pixel(const int down, const int across, const float *x, const float *weight,
                           vec sum, const int64_t *sizes, int64_t y, int64_t left) {
  const int64_t channels = sizes[1], height = sizes[2], width = sizes[3], gap_down = sizes[12],
                gap = sizes[13];
  for (int ky = 0; ky < down; ky++) {
    const int64_t row = y + ky * gap_down;
    if (row < 0 || row >= height) continue;
    const float *line = x + (row * width + left) * channels;
    const float *numbers = weight + ky * across * channels;
    for (int kx = 0; kx < across; kx++)
      if (left + kx * gap >= 0 && left + kx * gap < width)
        sum += *(const vec *)(line + kx * gap * channels) *
               *(const vec *)(numbers + kx * channels);
  }
  return sum;
}

/* The pixels of a 3x3 kernel that are computed at once: each number of the image is read once. */
#define PIXELS 4

/* Some channels of one row of a depthwise convolution. */
INLINE void depthwise_row(const int down, const int across, const int step, const float *x,
                          const float *weight, const float *bias, float *to, const int64_t *sizes,
                          int64_t y, float low, float high) {
  const int64_t channels = sizes[1], height = sizes[2], width = sizes[3], out = sizes[5],
                pad = sizes[11], gap = sizes[13];
  const int64_t pace = step ? step : sizes[9];
  const vec start = *(const vec *)bias;
  const int blocks = down == 3 && across == 3 && step;
  vec numbers[9];
  if (blocks)
    for (int i = 0; i < 9; i++) numbers[i] = *(const vec *)(weight + i * channels);
  for (int64_t at = 0; at < out;) {
    const int64_t left = at * pace - pad;
    if (blocks && gap == 1 && sizes[12] == 1 && left >= 0 && at + PIXELS <= out &&
        left + (PIXELS - 1) * step + 3 <= width) {
      vec sums[PIXELS];
#pragma GCC unroll 4
      for (int i = 0; i < PIXELS; i++) sums[i] = start;
#pragma GCC unroll 3
      for (int ky = 0; ky < 3; ky++) {
        if (y + ky < 0 || y + ky >= height) continue;
        const float *line = x + ((y + ky) * width + left) * channels;
#pragma GCC unroll 9
        for (int i = 0; i < (PIXELS - 1) * step + 3; i++) {
          const vec value = *(const vec *)(line + i * channels);
#pragma GCC unroll 3
          for (int kx = 0; kx < 3; kx++)
            if (i >= kx && (i - kx) % step == 0 && (i - kx) / step < PIXELS)
              sums[(i - kx) / step] += value * numbers[ky * 3 + kx];
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < PIXELS; i++)
        *(vec *)(to + (at + i) * channels) = clamped(sums[i], low, high);
      at += PIXELS;
      continue;
    }
    const vec sum = depthwise_pixel(down, across, x, weight, start, sizes, y, left);
    *(vec *)(to + at * channels) = clamped(sum, low, high);
    at++;
  }
}

/* One row of a depthwise convolution; y: the first row of the image under the kernel. */
static void depthwise_line(const float *image, const float *weight, const float *bias, float *to,
                           const int64_t *sizes, int64_t y, float low, float high) {
  const int small = sizes[6] == 3 && sizes[7] == 3;
  for (int64_t c = 0; c < sizes[1]; c += LANES) {
    const float *x = image + c, *w = weight + c, *b = bias + c;
    if (small && sizes[9] == 1)
      depthwise_row(3, 3, 1, x, w, b, to + c, sizes, y, low, high);
    else if (small && sizes[9] == 2)
      depthwise_row(3, 3, 2, x, w, b, to + c, sizes, y, low, high);
    else
      depthwise_row((int)sizes[6], (int)sizes[7], 0, x, w, b, to + c, sizes, y, low, high);
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
    depthwise_line(image, weight, bias, to + row * line, sizes,
                   row % rows * sizes[8] - sizes[10], low, high);
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
