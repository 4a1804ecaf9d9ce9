// The functions that library.py calls.

#include <new>

#include "decoder.h"

extern "C" {

Decoder* decoder_new(const Shape* shape, const float* cosines, const float* sines, int n_threads) {
    try {
        return new Decoder(*shape, cosines, sines, n_threads);
    } catch (const std::exception&) {
        return nullptr;
    }
}

void decoder_delete(Decoder* decoder) { delete decoder; }

void decoder_set_matrix(Decoder* decoder, int layer, int module, int format, const void* source) {
    decoder->set_matrix(layer, module, Format(format), source);
}

void decoder_set_bias(Decoder* decoder, int layer, int module, const float* source) {
    decoder->set_bias(layer, module, source);
}

void decoder_set_norm(Decoder* decoder, int layer, int which, const float* source) {
    decoder->set_norm(layer, which, source);
}

void decoder_set_embedding(Decoder* decoder, int format, const void* rows, const float* norm, const void* head) {
    decoder->set_embedding(Format(format), rows, norm, head);
}

int decoder_add_adapter(Decoder* decoder) { return decoder->add_adapter(); }

void decoder_set_low_rank(Decoder* decoder, int adapter, int layer, int module, int rank, float scale, const float* a,
                          const float* b) {
    decoder->set_low_rank(adapter, layer, module, rank, scale, a, b);
}

void decoder_remove_adapter(Decoder* decoder, int adapter) { decoder->remove_adapter(adapter); }

void decoder_copy_page(Decoder* decoder, int from, int to) { decoder->copy_page(from, to); }

void decoder_step(Decoder* decoder, const Segment* segments, int n_segments, float* logits) {
    decoder->step(segments, n_segments, logits);
}

}  // extern "C"
