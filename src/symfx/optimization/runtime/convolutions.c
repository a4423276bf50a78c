/* Convolutions of images that are channels last, and the pooling behind them.
 *
 * layers.c comes before this file; see there for activations and panels.
 */

/* The channels that an image may have: as many zeros stand for a pixel outside of it. */
#define DEEPEST 8192
static const float OUTSIDE[DEEPEST] __attribute__((aligned(64)));
int symfx_deepest(void) { return DEEPEST; }

/* A tile of a convolution: the sum, over the places under the kernel, of pixels times weights.
 *
 * pixels: for each place, ROWS pointers to the channels there. weights: for each place, its part of
 * the panel. The tile starts from the bias, or from what it held before.
 */
INLINE void gather_tile(const int rows, const int vectors, const float *const *pixels,
                        const float *const *weights, int64_t places, int64_t depth, float *to,
                        int64_t to_row, const float *bias) {
  vec sums[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sums[r][v] = *(const vec *)((bias ? bias : to + r * to_row) + v * LANES);
  for (int64_t place = 0; place < places; place++, pixels += ROWS) {
    const float *from[ROWS], *panel = weights[place];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) from[r] = pixels[r];
    for (int64_t k = 0; k < depth; k++, panel += TILE) {
      vec columns[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) columns[v] = *(const vec *)(panel + v * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        const vec one = all(from[r][k]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sums[r][v] += one * columns[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) *(vec *)(to + r * to_row + v * LANES) = sums[r][v];
}

typedef void gather_function(const float *const *pixels, const float *const *weights,
                             int64_t places, int64_t depth, float *to, int64_t to_row,
                             const float *bias);

#define MAKE(rows, vectors)                                                                   \
  static __attribute__((noinline)) void gather_##rows##_##vectors(                            \
      const float *const *pixels, const float *const *weights, int64_t places, int64_t depth, \
      float *to, int64_t to_row, const float *bias) {                                         \
    gather_tile(rows, vectors, pixels, weights, places, depth, to, to_row, bias);             \
  }
#define MAKE_ALL(vectors)                                                                     \
  MAKE(1, vectors) MAKE(2, vectors) MAKE(3, vectors)                                          \
  MAKE(4, vectors) MAKE(5, vectors) MAKE(6, vectors)
#define NAMES(vectors)                                                                        \
  {gather_1_##vectors, gather_2_##vectors, gather_3_##vectors,                                \
   gather_4_##vectors, gather_5_##vectors, gather_6_##vectors}
MAKE_ALL(1)
MAKE_ALL(2)
#if VECTORS == 4
MAKE_ALL(3)
MAKE_ALL(4)
#endif
static gather_function *const GATHERS[VECTORS][ROWS] = {
    NAMES(1), NAMES(2),
#if VECTORS == 4
    NAMES(3), NAMES(4),
#endif
};
#undef MAKE
#undef MAKE_ALL
#undef NAMES

/* A convolution.
 *
 * sizes: those of symfx_depthwise, then the channels of the result, the activation and, for an image
 * of few channels, its strides. Such an image is copied, with the zeros around it, so that a row of
 * the kernel is one place.
 */
typedef struct {
  const float *x, *panels, *bias, *other, *behind;
  float *to;
  const int64_t *sizes;
  float low, high;
  /* The places under the kernel, the numbers at each, and the places that are computed at once. */
  int64_t places, depth, some;
} convolution;

/* Where the numbers under the kernel lie: an image, or rows of it with zeros around them. */
typedef struct {
  const float *rows;
  int64_t first, width;
} strip;

/* The pointers to the channels under the kernel for `count` pixels of the result.
 *
 * Returns the number of places that have a pixel inside of the image.
 */
static int64_t gather(const convolution *c, const strip *s, int64_t pixel, int count,
                      int64_t start, int64_t end, const float *panel, const float **pixels,
                      const float **weights) {
  const int64_t *n = c->sizes;
  const int64_t channels = n[1], height = n[2], width = n[3], across = n[7];
  int64_t image[ROWS], y[ROWS], x[ROWS], found = 0;
  for (int r = 0; r < count; r++) {
    const int64_t line = (pixel + r) / n[5];
    x[r] = (pixel + r) % n[5] * n[9];
    image[r] = line / n[4];
    y[r] = line % n[4] * n[8];
  }
  for (int64_t place = start; place < end; place++) {
    const float **to = pixels + found * ROWS;
    weights[found] = panel + place * c->depth * TILE;
    if (s) {
      for (int r = 0; r < count; r++)
        to[r] = s->rows + (y[r] + place * n[12] - s->first) * s->width + x[r] * channels;
      found++;
      continue;
    }
    const int64_t down = place / across * n[12] - n[10], right = place % across * n[13] - n[11];
    int inside = 0;
    for (int r = 0; r < count; r++) {
      const int64_t row = y[r] + down, column = x[r] + right;
      const int in = row >= 0 && row < height && column >= 0 && column < width;
      to[r] = in ? c->x + ((image[r] * height + row) * width + column) * channels : OUTSIDE;
      inside |= in;
    }
    found += inside;
  }
  return found;
}

/* Some pixels of one panel of a convolution. */
static void convolve_block(const convolution *c, const strip *s, int64_t first, int64_t rows,
                           int64_t n, const float **pixels, const float **weights) {
  const int64_t all_columns = c->sizes[14], size = c->places * c->depth;
  const int post = (int)c->sizes[15];
  const float *panel = c->panels + n * size;
  const float *next = n + TILE < all_columns ? panel + TILE * size : c->behind;
  const float *end = next + TILE * size;
  const int width = all_columns - n < TILE ? (int)(all_columns - n) : TILE;
  const int vectors = (width + LANES - 1) / LANES, direct = width % LANES == 0;
  const int64_t turns = (rows + ROWS - 1) / ROWS * ((c->places + c->some - 1) / c->some);
  const int64_t ahead = up_to((TILE * size + turns - 1) / turns, 16);
  float held[ROWS * TILE], added[ROWS * TILE];
  for (int64_t start = 0; start < c->places; start += c->some) {
    const int64_t stop = start + c->some < c->places ? start + c->some : c->places;
    const int last = stop == c->places;
    for (int64_t r = 0; r < rows; r += ROWS) {
      const int count = rows - r < ROWS ? (int)(rows - r) : ROWS;
      float *to = c->to + (first + r) * all_columns + n, *into = to;
      const float *sum = c->other ? c->other + (first + r) * all_columns + n : NULL;
      int64_t into_row = all_columns, sum_row = all_columns;
      if (next)
        for (const float *until = next + ahead; next < until && next < end; next += 16)
          __builtin_prefetch(next, 0, 2);
      if (!direct) {
        if (start)
          for (int i = 0; i < count; i++)
            memcpy(held + i * TILE, to + i * into_row, sizeof(float) * width);
        if (sum && last) {
          for (int i = 0; i < count; i++)
            memcpy(added + i * TILE, sum + i * sum_row, sizeof(float) * width);
          sum = added, sum_row = TILE;
        }
        into = held, into_row = TILE;
      }
      const int64_t found = gather(c, s, first + r, count, start, stop, panel, pixels, weights);
      GATHERS[vectors - 1][count - 1](pixels, weights, found, c->depth, into, into_row,
                                      start ? NULL : c->bias + n);
      if (last && (sum || post))
        finish(count, into, into_row, sum, sum_row, vectors, post, c->low, c->high);
      if (!direct)
        for (int i = 0; i < count; i++)
          memcpy(to + i * all_columns, held + i * TILE, sizeof(float) * width);
    }
  }
}

/* Rows of an image of any strides, with zeros around them, channels last. */
static void surround(const float *image, const int64_t *sizes, strip s, float *to, int64_t rows) {
  const int64_t channels = sizes[1], height = sizes[2], width = sizes[3], pad = sizes[11];
  for (int64_t row = 0; row < rows; row++, to += s.width) {
    const int64_t y = s.first + row - sizes[10];
    if (y < 0 || y >= height) {
      memset(to, 0, sizeof(float) * s.width);
      continue;
    }
    memset(to, 0, sizeof(float) * pad * channels);
    memset(to + (pad + width) * channels, 0, sizeof(float) * pad * channels);
    const float *from = image + y * sizes[18];
    float *inner = to + pad * channels;
    if (channels == 3 && sizes[19] == 1) {
      const float *red = from, *green = from + sizes[17], *blue = from + 2 * sizes[17];
      for (int64_t x = 0; x < width; x++) {
        inner[3 * x] = red[x];
        inner[3 * x + 1] = green[x];
        inner[3 * x + 2] = blue[x];
      }
      continue;
    }
    for (int64_t c = 0; c < channels; c++)
      for (int64_t x = 0; x < width; x++)
        inner[x * channels + c] = from[c * sizes[17] + x * sizes[19]];
  }
}

/* The floats of an image of few channels that are copied at once. */
#define COPIED 16384

/* Computes a convolution; see there. Returns 1 if there is no memory. */
int symfx_convolve(const float *x, const float *panels, const float *bias, const float *other,
                   float *to, const int64_t *sizes, float low, float high, int threads,
                   const float *behind) {
  const int64_t channels = sizes[1], down = sizes[6], across = sizes[7], out = sizes[5];
  const int narrow = sizes[19] != 0;
  convolution c = {x, panels, bias, other, behind, to, sizes, low, high,
                   narrow ? down : down * across, narrow ? across * channels : channels, 0};
  const int64_t columns = (sizes[14] + TILE - 1) / TILE, pixels = sizes[0] * sizes[4] * out;
  const int64_t held = 2 * DEPTH / c.depth > 1 ? 2 * DEPTH / c.depth : 1;
  const int64_t blocks = (c.places + held - 1) / held;
  c.some = (c.places + blocks - 1) / blocks;
  const int64_t reach = (down - 1) * sizes[12] + 1,
                width = (sizes[3] + 2 * sizes[11]) * channels;
  int64_t each, lines = 1;
  if (narrow) {
    while (lines < sizes[4] && (lines * sizes[8] + reach) * width < COPIED) lines++;
    each = lines * out;
  } else {
    each = up_to(65536 / (channels < DEPTH ? channels + 1 : DEPTH), ROWS);
    while (threads > 1 && each > 2 * ROWS && columns * ((pixels + each - 1) / each) < 4 * threads)
      each = up_to(each / 2, ROWS);
  }
  const int64_t strips = (sizes[4] + lines - 1) / lines;
  const int64_t work = narrow ? sizes[0] * strips : (pixels + each - 1) / each * columns;
  int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1 && work > 1)
  {
    const float **pointers = malloc(sizeof(float *) * (ROWS + 1) * c.some);
    float *copied = NULL;
    if (narrow)
      copied = aligned_alloc(64, up_to(sizeof(float) * (lines * sizes[8] + reach) * width, 64));
    if (!pointers || (narrow && !copied)) {
#pragma omp atomic write
      failed = 1;
    }
    const float **weights = pointers + ROWS * c.some;
#pragma omp for schedule(dynamic, 1)
    for (int64_t piece = 0; piece < work; piece++) {
      if (!pointers || (narrow && !copied)) continue;
      if (!narrow) {
        const int64_t first = piece / columns * each, some = pixels - first;
        convolve_block(&c, NULL, first, some < each ? some : each, piece % columns * TILE,
                       pointers, weights);
        continue;
      }
      const int64_t image = piece / strips, top = piece % strips * lines;
      const int64_t some = sizes[4] - top < lines ? sizes[4] - top : lines;
      strip s = {copied, top * sizes[8], width};
      surround(x + image * sizes[16], sizes, s, copied, (some - 1) * sizes[8] + reach);
      for (int64_t n = 0; n < sizes[14]; n += TILE)
        convolve_block(&c, &s, (image * sizes[4] + top) * out, some * out, n, pointers, weights);
    }
    free(pointers);
    free(copied);
  }
  return failed;
}

/* Winograd's algorithm: a tile of the result takes one product for each place of the image under it,
 * where a direct convolution takes nine for each pixel. A tile has 2x2 pixels and 4x4 places, or 4x4
 * pixels and 6x6 places.
 *
 * Sources: S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin and S. Gray, Fast
 * Algorithms for Convolutional Neural Networks (arXiv:1509.09308).
 *
 * sizes: images, channels, height, width, height and width of the result, padding down and across,
 * channels of the result, activation, side of a tile, and whether the result is finite.
 */
typedef struct {
  const float *x, *panels, *bias, *other;
  float *to;
  const int64_t *sizes;
  float low, high;
  int64_t down, across, columns, side, places;
} tiled;

/* The points of the larger tile beside 0 and infinity; see runtime/winograd.py. */
#define NEAR 0.625f
#define FAR 1.5f
#define NEAR2 (NEAR * NEAR)
#define FAR2 (FAR * FAR)

/* The places of a line of a tile from the numbers under it. */
INLINE void spread_line(const int side, const vec *d, vec *to) {
  if (side == 2) {
    to[0] = d[0] - d[2];
    to[1] = d[1] + d[2];
    to[2] = d[2] - d[1];
    to[3] = d[1] - d[3];
    return;
  }
  const vec one = d[4] - d[2] * FAR2, two = (d[3] - d[1] * FAR2) * NEAR;
  const vec three = d[4] - d[2] * NEAR2, four = (d[3] - d[1] * NEAR2) * FAR;
  to[0] = d[0] * (NEAR2 * FAR2) - d[2] * (NEAR2 + FAR2) + d[4];
  to[1] = one + two;
  to[2] = one - two;
  to[3] = three + four;
  to[4] = three - four;
  to[5] = d[1] * (NEAR2 * FAR2) - d[3] * (NEAR2 + FAR2) + d[5];
}

/* The results of a line of a tile from the products at its places. */
INLINE void collect_line(const int side, const vec *m, vec *to) {
  if (side == 2) {
    to[0] = m[0] + m[1] + m[2];
    to[1] = m[1] - m[2] - m[3];
    return;
  }
  const vec one = m[1] + m[2], two = m[1] - m[2], three = m[3] + m[4], four = m[3] - m[4];
  to[0] = m[0] + one + three;
  to[1] = two * NEAR + four * FAR;
  to[2] = one * NEAR2 + three * FAR2;
  to[3] = two * (NEAR * NEAR2) + four * (FAR * FAR2) + m[5];
}

/* The numbers at the places of some tiles: to[place * apart + (tile - first) * channels + c]. */
INLINE void spread_tiles(const int side, const tiled *t, int64_t first, int64_t begin, int64_t end,
                         float *to, int64_t apart) {
  const int64_t *n = t->sizes;
  const int64_t channels = n[1], height = n[2], width = n[3];
  const int wide = side + 2;
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t line = tile / t->across, image = line / t->down;
    const int64_t y = line % t->down * side - n[6], x = tile % t->across * side - n[7];
    const float *from[36];
    for (int i = 0; i < wide; i++)
      for (int j = 0; j < wide; j++) {
        const int in = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
        from[i * wide + j] =
            in ? t->x + ((image * height + y + i) * width + x + j) * channels : OUTSIDE;
      }
    float *into = to + (tile - first) * channels;
    for (int64_t c = 0; c < channels; c += LANES) {
      vec half[36], whole[6];
#pragma GCC unroll 6
      for (int j = 0; j < wide; j++) {
        vec d[6];
#pragma GCC unroll 6
        for (int i = 0; i < wide; i++) d[i] = *(const vec *)(from[i * wide + j] + c);
        spread_line(side, d, whole);
#pragma GCC unroll 6
        for (int i = 0; i < wide; i++) half[i * wide + j] = whole[i];
      }
#pragma GCC unroll 6
      for (int i = 0; i < wide; i++) {
        spread_line(side, half + i * wide, whole);
#pragma GCC unroll 6
        for (int j = 0; j < wide; j++) *(vec *)(into + (i * wide + j) * apart + c) = whole[j];
      }
    }
  }
}

/* The results of some tiles from the products. Returns NaN in a lane if one is not finite. */
INLINE vec collect_tiles(const int side, const tiled *t, int64_t first, int64_t begin, int64_t end,
                         const float *from, int64_t apart) {
  const int64_t *n = t->sizes;
  const int64_t result = n[8], room = t->columns * TILE;
  const int wide = side + 2, post = (int)n[9];
  vec odd = all(0.0f);
  for (int64_t tile = begin; tile < end; tile++) {
    const int64_t line = tile / t->across, image = line / t->down;
    const int64_t y = line % t->down * side, x = tile % t->across * side;
    const int rows = n[4] - y < side ? (int)(n[4] - y) : side,
              wanted = n[5] - x < side ? (int)(n[5] - x) : side;
    const int64_t place = ((image * n[4] + y) * n[5] + x) * result;
    const float *products = from + (tile - first) * room;
    for (int64_t c = 0; c < result; c += LANES) {
      vec half[24], found[16];
#pragma GCC unroll 6
      for (int j = 0; j < wide; j++) {
        vec m[6], some[4];
#pragma GCC unroll 6
        for (int i = 0; i < wide; i++)
          m[i] = *(const vec *)(products + (i * wide + j) * apart + c);
        collect_line(side, m, some);
#pragma GCC unroll 4
        for (int i = 0; i < side; i++) half[i * wide + j] = some[i];
      }
      const vec bias = *(const vec *)(t->bias + c);
#pragma GCC unroll 4
      for (int i = 0; i < side; i++) collect_line(side, half + i * wide, found + i * side);
      for (int i = 0; i < rows; i++)
        for (int j = 0; j < wanted; j++) {
          const int64_t at = place + (i * n[5] + j) * result + c;
          vec value = found[i * side + j] + bias;
          odd += value * 0.0f;
          if (t->other) value += *(const vec *)(t->other + at);
          if (post == RELU)
            value = choose(value < all(0.0f), all(0.0f), value);
          else if (post)
            value = activated(value, post, t->low, t->high);
          *(vec *)(t->to + at) = value;
        }
    }
  }
  return odd;
}

static void spread(const tiled *t, int64_t first, int64_t begin, int64_t end, float *to,
                   int64_t apart) {
  if (t->side == 2)
    spread_tiles(2, t, first, begin, end, to, apart);
  else
    spread_tiles(4, t, first, begin, end, to, apart);
}

static vec collect(const tiled *t, int64_t first, int64_t begin, int64_t end, const float *from,
                   int64_t apart) {
  if (t->side == 2) return collect_tiles(2, t, first, begin, end, from, apart);
  return collect_tiles(4, t, first, begin, end, from, apart);
}

/* The products of some places and panels; work is numbered place by place, panel by panel. */
static void multiply(const tiled *t, int64_t begin, int64_t end, const float *numbers,
                     int64_t apart, float *products, int64_t products_apart, int64_t tiles) {
  const int64_t channels = t->sizes[1], size = channels * TILE;
  for (int64_t piece = begin; piece < end; piece++) {
    const int64_t place = piece / t->columns, n = piece % t->columns * TILE;
    const int64_t left = up_to(t->sizes[8] - n, LANES);
    linear_block(numbers + place * apart, channels, t->panels + piece * size, channels, OUTSIDE,
                 NULL, products + place * products_apart + n, t->columns * TILE, tiles,
                 left < TILE ? (int)left : TILE, NOTHING, 0, 0,
                 piece + 1 < end ? t->panels + (piece + 1) * size : NULL);
  }
}

/* The floats that one thread's numbers and products of tiles take, at least. */
#define TILED 196608

/* A 3x3 convolution of stride 1 by Winograd's algorithm. panels: a matrix for each place.
 *
 * The channels of the image and of the result are multiples of LANES. Returns 1, and writes nothing
 * of use, if a result is not finite: which other results are then, only a direct convolution tells.
 */
int symfx_winograd(const float *x, const float *panels, const float *bias, const float *other,
                   float *to, const int64_t *sizes, float low, float high, int threads) {
  const int64_t side = sizes[10], channels = sizes[1], result = sizes[8];
  tiled t = {x, panels, bias, other, to, sizes, low, high, (sizes[4] + side - 1) / side,
             (sizes[5] + side - 1) / side, (result + TILE - 1) / TILE, side,
             (side + 2) * (side + 2)};
  const int64_t tiles = sizes[0] * t.down * t.across, room = t.columns * TILE;
  /* Each group of tiles reads all weights once more. */
  int64_t wanted = t.places * channels * room / 4;
  if (wanted < TILED) wanted = TILED;
  int64_t groups = tiles * t.places * (channels + room) / wanted + 1;
  /* Threads that would have no group of their own share the work on each. */
  const int shared = threads > 1 && groups < 2 * threads && tiles / ROWS < 8 * threads;
  if (threads > 1 && !shared && groups % threads) groups += threads - groups % threads;
  const int64_t each = up_to((tiles + groups - 1) / groups, ROWS);
  groups = (tiles + each - 1) / each;
  /* Not a multiple of a page, so that the places of a tile do not fall on the same cache lines. */
  const int64_t apart = each * channels + 16, products_apart = each * room + 16;
  const int64_t size = up_to(sizeof(float) * t.places * (apart + products_apart), 64);
  const int64_t pieces = t.places * t.columns;
  float *common = shared ? aligned_alloc(64, size) : NULL;
  int failed = shared && !common;
  if (failed) return 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float *own = shared ? common : aligned_alloc(64, size);
    float *products = own + t.places * apart;
    vec odd = all(0.0f);
    if (shared) {
      for (int64_t first = 0; first < tiles; first += each) {
        const int64_t end = first + each < tiles ? first + each : tiles;
#pragma omp for schedule(static)
        for (int64_t tile = first; tile < end; tile++)
          spread(&t, first, tile, tile + 1, own, apart);
#pragma omp for schedule(dynamic, 2)
        for (int64_t piece = 0; piece < pieces; piece++)
          multiply(&t, piece, piece + 1, own, apart, products, products_apart, end - first);
#pragma omp for schedule(static)
        for (int64_t tile = first; tile < end; tile++)
          odd += collect(&t, first, tile, tile + 1, products, products_apart);
      }
    } else {
#pragma omp for schedule(dynamic, 1)
      for (int64_t group = 0; group < groups; group++) {
        const int64_t first = group * each, end = first + each < tiles ? first + each : tiles;
        if (!own) continue;
        spread(&t, first, first, end, own, apart);
        multiply(&t, 0, pieces, own, apart, products, products_apart, end - first);
        odd += collect(&t, first, first, end, products, products_apart);
      }
      free(own);
    }
    const float trace = sum_of(odd);
    if (!own || trace != trace) {
#pragma omp atomic write
      failed = 1;
    }
  }
  free(common);
  return failed;
}

/* The greatest value of each window of an image; NaN is greater than all.
 *
 * sizes: those of symfx_depthwise.
 */
void symfx_pool(const float *x, float *to, const int64_t *sizes, int threads) {
  const int64_t channels = sizes[1], height = sizes[2], width = sizes[3], rows = sizes[4],
                out = sizes[5];
#pragma omp parallel for num_threads(threads) if (threads > 1 && sizes[0] * rows * out * channels > 4096)
  for (int64_t row = 0; row < sizes[0] * rows; row++) {
    const float *image = x + row / rows * height * width * channels;
    const int64_t y = row % rows * sizes[8] - sizes[10];
    for (int64_t at = 0; at < out; at++) {
      const int64_t left = at * sizes[9] - sizes[11];
      float *into = to + (row * out + at) * channels;
      int64_t c = 0;
      for (; c + LANES <= channels; c += LANES) {
        vec most = all(-__builtin_inff());
        for (int64_t i = 0; i < sizes[6]; i++)
          for (int64_t j = 0; j < sizes[7]; j++) {
            const int64_t down = y + i * sizes[12], across = left + j * sizes[13];
            if (down < 0 || down >= height || across < 0 || across >= width) continue;
            const vec value = *(const vec *)(image + (down * width + across) * channels + c);
            most = choose((value <= most) | (most != most), most, value);
          }
        *(vec *)(into + c) = most;
      }
      for (; c < channels; c++) {
        float most = -__builtin_inff();
        for (int64_t i = 0; i < sizes[6]; i++)
          for (int64_t j = 0; j < sizes[7]; j++) {
            const int64_t down = y + i * sizes[12], across = left + j * sizes[13];
            if (down < 0 || down >= height || across < 0 || across >= width) continue;
            const float value = image[(down * width + across) * channels + c];
            most = value <= most || most != most ? most : value;
          }
        into[c] = most;
      }
    }
  }
}

/* The mean of all pixels of each channel. */
void symfx_mean(const float *x, float *to, int64_t images, int64_t pixels, int64_t channels) {
  for (int64_t image = 0; image < images; image++, x += pixels * channels, to += channels) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
      /* Several sums, so that rounding errors grow less with the number of pixels. */
      vec sums[4] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
      int64_t p = 0;
      for (; p + 4 <= pixels; p += 4)
        for (int i = 0; i < 4; i++) sums[i] += *(const vec *)(x + (p + i) * channels + c);
      for (; p < pixels; p++) sums[0] += *(const vec *)(x + p * channels + c);
      *(vec *)(to + c) = (sums[0] + sums[1] + sums[2] + sums[3]) / (float)pixels;
    }
    for (; c < channels; c++) {
      double sum = 0;
      for (int64_t p = 0; p < pixels; p++) sum += x[p * channels + c];
      to[c] = (float)(sum / pixels);
    }
  }
}
