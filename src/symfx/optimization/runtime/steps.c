/* Many kernels in one call. A model of hundred kernels spends more time between small ones, in
 * Python, than a model of one call spends in total.
 */
#include "kernels.c"
#include "layers.c"
#include "convolutions.c"

enum { ATTENTION, NORMALIZE, LINEAR, DEPTHWISE, ROTATE, COPY, COMBINE, SEPARABLE,
       CONVOLVE, WINOGRAD, POOL, MEAN };

#define PLACES 9
#define NUMBERS 28

/* One call of a kernel.
 *
 * Each pointer is a number of bytes behind one of the bases; base 0 is address 0. The rest are the
 * kernel's other arguments, in the order in which it takes them.
 */
typedef struct {
  int64_t kernel;
  int64_t base[PLACES], offset[PLACES];
  int64_t numbers[NUMBERS];
  double reals[6];
} step;

int64_t symfx_step_size(void) { return sizeof(step); }

/* Copies a tensor of four dimensions. strides: those of the source, then of the result. */
void symfx_copy(const float *from, float *to, const int64_t *sizes, const int64_t *strides,
                int threads) {
#pragma omp parallel for collapse(2) num_threads(threads) if (threads > 1 && sizes[0] * sizes[1] * sizes[2] * sizes[3] > 16384)
  for (int64_t a = 0; a < sizes[0]; a++)
    for (int64_t b = 0; b < sizes[1]; b++)
      for (int64_t c = 0; c < sizes[2]; c++) {
        const float *x = from + a * strides[0] + b * strides[1] + c * strides[2];
        float *y = to + a * strides[4] + b * strides[5] + c * strides[6];
        if (strides[3] == 1 && strides[7] == 1)
          memcpy(y, x, sizeof(float) * sizes[3]);
        else if (strides[2] == 1 && strides[7] == 1 && sizes[2] - c >= LANES) {
          /* Squares of a matrix that is transposed. */
          int64_t d = 0;
          for (; d + LANES <= sizes[3]; d += LANES)
            turn_square(x + d * strides[3], strides[3], y + d, strides[6]);
          for (; d < sizes[3]; d++)
            for (int i = 0; i < LANES; i++) y[i * strides[6] + d] = x[i + d * strides[3]];
          c += LANES - 1;
        } else
          for (int64_t d = 0; d < sizes[3]; d++) y[d * strides[7]] = x[d * strides[3]];
      }
}

enum { SUM, PRODUCT };

/* The sum or the product of two contiguous tensors; the second may be repeated. */
void symfx_combine(const float *x, const float *other, float *to, int64_t count, int64_t period,
                   int how, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && count > 16384)
  for (int64_t start = 0; start < count; start += period) {
    const float *a = x + start;
    float *y = to + start;
    if (how == SUM)
      for (int64_t i = 0; i < period; i++) y[i] = a[i] + other[i];
    else
      for (int64_t i = 0; i < period; i++) y[i] = a[i] * other[i];
  }
}

/* The floats of one thread's part of an image: half of a usual second-level cache. */
#define STRIP 131072

/* A linear layer of each pixel, a depthwise convolution and a linear layer of each pixel, strip by
 * strip, so that the many channels between them stay in the cache.
 *
 * pointers: image, panels and bias of the first layer (NULL if there is none), weight and bias of
 * the convolution, panels and bias of the last layer, the sum or NULL, and the result. sizes: those
 * of symfx_depthwise, then channels of the image and of the result, and the activations of both
 * layers. ranges: least and greatest values behind each of the three.
 */
void symfx_separable(void *const *pointers, const int64_t *sizes, const double *ranges,
                     int threads) {
  const float *x = pointers[0], *first = pointers[1], *first_bias = pointers[2],
              *weight = pointers[3], *bias = pointers[4], *last = pointers[5],
              *last_bias = pointers[6], *other = pointers[7];
  float *to = pointers[8];
  const int64_t channels = sizes[1], height = sizes[2], width = sizes[3], rows = sizes[4],
                out = sizes[5], down = sizes[6], step = sizes[8], pad = sizes[10],
                gap = sizes[12], from = sizes[14], result = sizes[15];
  const int64_t line = width * channels, thin = out * channels, reach = (down - 1) * gap + 1;
  int64_t strip = 1;
  while (strip < rows && ((strip * step + reach) * (first ? line : 0)) + (strip + 1) * thin < STRIP)
    strip++;
  int64_t parts = 1;
  while (threads > 1 && sizes[0] * parts < 2 * threads && rows / parts > 2 * reach) parts++;
  const int64_t each = (rows + parts - 1) / parts;
  const int64_t held = first ? ((strip - 1) * step + reach) * line : 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
  for (int64_t part = 0; part < sizes[0] * parts; part++) {
    const int64_t image = part / parts, begin = part % parts * each,
                  end = begin + each < rows ? begin + each : rows;
    float *wide = aligned_alloc(64, up_to(sizeof(float) * (held + strip * thin), 64));
    float *narrow = wide + held;
    /* The rows of the wide image that are held, where they are held. */
    int64_t low = 0, high = 0;
    for (int64_t y = begin; y < end; y += strip) {
      const int64_t some = end - y < strip ? end - y : strip;
      const float *pixels = x + image * height * width * from;
      if (first) {
        int64_t top = y * step - pad, bottom = (y + some - 1) * step - pad + reach;
        top = top < 0 ? 0 : top;
        bottom = bottom > height ? height : bottom;
        if (top < high)
          memmove(wide, wide + (top - low) * line, sizeof(float) * (high - top) * line);
        else
          high = top;
        low = top;
        if (bottom > high) {
          linear_rows(pixels + high * width * from, first, first_bias, NULL,
                      wide + (high - low) * line, (bottom - high) * width, from, channels,
                      (int)sizes[16], (float)ranges[0], (float)ranges[1]);
          high = bottom;
        }
        pixels = wide - low * line;
      }
      for (int64_t i = 0; i < some; i++)
        depthwise_line(pixels, weight, bias, narrow + i * thin, sizes, (y + i) * step - pad,
                       (float)ranges[2], (float)ranges[3]);
      const int64_t place = (image * rows + y) * out * result;
      linear_rows(narrow, last, last_bias, other ? other + place : NULL, to + place, some * out,
                  channels, result, (int)sizes[17], (float)ranges[4], (float)ranges[5]);
    }
    free(wide);
  }
}

/* The weight of the next layer, or NULL. */
static const float *panels_behind(const step *s, const step *end, char *const *bases) {
  for (; s < end; s++)
    if (s->kernel == LINEAR || s->kernel == CONVOLVE || s->kernel == WINOGRAD)
      return (const float *)(bases[s->base[1]] + s->offset[1]);
  return NULL;
}

/* Runs the steps in turn.
 *
 * Returns 0, or 1 if a kernel refuses its numbers; the results are of no use then.
 */
int symfx_run(const step *steps, int64_t count, char *const *bases, int threads) {
  for (const step *s = steps; s < steps + count; s++) {
    void *p[PLACES];
    for (int i = 0; i < PLACES; i++) p[i] = bases[s->base[i]] + s->offset[i];
    const int64_t *n = s->numbers;
    const double *r = s->reals;
    switch (s->kernel) {
      case ATTENTION:
        if (symfx_attention(p[0], p[1], p[2], p[3], p[4], (int)n[0], (int)n[1], (float)r[0], n + 2,
                            n + 9, threads))
          return 1;
        break;
      case NORMALIZE:
        symfx_normalize(p[0], n[0], n[1], (float)r[0], p[1], p[2], (int)n[2], p[3], threads);
        break;
      case LINEAR:
        symfx_linear(p[0], p[1], p[2], p[3], p[4], n[0], n[1], n[2], (int)n[3],
                     (float)r[0], (float)r[1], threads, panels_behind(s + 1, steps + count, bases));
        break;
      case DEPTHWISE:
        symfx_depthwise(p[0], p[1], p[2], p[3], n, (float)r[0], (float)r[1], threads);
        break;
      case ROTATE:
        symfx_rotate(p[0], p[1], p[2], p[3], n, n + 4, threads);
        break;
      case COPY:
        symfx_copy(p[0], p[1], n, n + 4, threads);
        break;
      case COMBINE:
        symfx_combine(p[0], p[1], p[2], n[0], n[1], (int)n[2], threads);
        break;
      case SEPARABLE:
        symfx_separable(p, n, r, threads);
        break;
      case CONVOLVE:
        if (symfx_convolve(p[0], p[1], p[2], p[3], p[4], n, (float)r[0], (float)r[1], threads,
                           panels_behind(s + 1, steps + count, bases)))
          return 1;
        break;
      case WINOGRAD:
        if (symfx_winograd(p[0], p[1], p[2], p[3], p[4], n, (float)r[0], (float)r[1], threads))
          return 1;
        break;
      case POOL:
        symfx_pool(p[0], p[1], n, threads);
        break;
      case MEAN:
        symfx_mean(p[0], p[1], n[0], n[1], n[2]);
        break;
    }
  }
  return 0;
}
