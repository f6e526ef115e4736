#include "parts.h"

const uint32_t model_sizes[4] = {sizeof(model_state), sizeof(model_work), MODEL_SAVED, MODEL_HASH};

static unsigned char *model_put(unsigned char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(value >> (8 * i) & 255u);
    return to + 4;
}

static uint32_t model_get(const unsigned char *from)
{
    uint32_t value = 0;
    for (int i = 3; i >= 0; i--) value = value << 8 | from[i];
    return value;
}

/* CRC-32 of IEEE 802.3. */
static uint32_t model_crc(const unsigned char *bytes, uint32_t size)
{
    uint32_t crc = 0xffffffffu;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

/* The state is words of 32 bits. Saved: format, hash, the words, CRC. */
void model_save(const model_state *state, unsigned char *bytes)
{
    unsigned char *to = model_put(model_put(bytes, 1u), MODEL_HASH);
    for (unsigned i = 0; i < sizeof *state / 4; i++) {
        uint32_t word;
        memcpy(&word, (const unsigned char *)state + 4 * i, 4);
        to = model_put(to, word);
    }
    model_put(to, model_crc(bytes, MODEL_SAVED - 4));
}

model_status model_restore(model_state *state, const unsigned char *bytes, uint32_t size)
{
    if (size != MODEL_SAVED || model_get(bytes) != 1u || model_get(bytes + 4) != MODEL_HASH) return MODEL_BAD_BYTES;
    if (model_get(bytes + size - 4) != model_crc(bytes, size - 4)) return MODEL_BAD_BYTES;
    for (unsigned i = 0; i < sizeof *state / 4; i++) {
        const uint32_t word = model_get(bytes + 8 + 4 * i);
        memcpy((unsigned char *)state + 4 * i, &word, 4);
    }
    return MODEL_OK;
}
