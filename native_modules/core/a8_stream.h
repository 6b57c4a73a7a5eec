/* A causal model on a stream of samples: state instead of recomputation (models/FORMAT.md, "Streams").
 *
 *     int32_t bytes = a8_stream_bytes(m);               negative: A8_ERR_STREAM
 *     void *state = memory of that many bytes, aligned to 4
 *     a8_stream_reset(m, state, bytes, hop);
 *     n = a8_stream_push(m, file, n, arena, m->arena_bytes, state, bytes, samples, n_bytes, outputs, m->n_outputs);
 *
 * The tensors of a push lie in the model's arena; nothing in it is kept from one push to the next, so a model may run
 * windows and several streams in turn. What is kept lies in the state: the last tokens that a convolution reads, the
 * keys and values that attention sees, the tokens that a pool takes and their sums. A state that was damaged gives
 * wrong numbers, never an access outside a buffer.
 */
#ifndef A8_STREAM_H
#define A8_STREAM_H

#include "a8_model.h"

/* Bytes of a state, or A8_ERR_STREAM if the model sees what is to come; A8_ERR_LEFT_OUT with -DA8_WITHOUT_STREAM, which
 * leaves the other functions out. */
#ifdef A8_WITHOUT_STREAM
static inline int32_t a8_stream_bytes(const a8_model_t *m)
{
    (void)m;
    return A8_ERR_LEFT_OUT;
}
#else
int32_t a8_stream_bytes(const a8_model_t *m);

/* Bytes that a packed state has in addition; 0 where the kernels of this target gain nothing. Weights are packed by the
 * first push after a reset. Such a state makes every token faster; a smaller one is not packed. */
uint32_t a8_stream_packed_bytes(const a8_model_t *m);

/* Begins a recording; outputs will come after n_steps samples, then every `hop` >= 1. MEMORY, ALIGNMENT. */
int32_t a8_stream_reset(const a8_model_t *m, void *state, uint32_t state_bytes, uint32_t hop);

/* Takes 1 or more samples, (n, C) of the input type at any alignment. Returns how many outputs were due among them, the
 * last of which is in `output` (n_outputs,) int8; or the errors of a8_run. */
int32_t a8_stream_push(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, void *state,
                       uint32_t state_bytes, const void *samples, uint32_t samples_bytes, int8_t *output,
                       uint32_t output_bytes);
#endif

#endif
