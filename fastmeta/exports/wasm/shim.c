/* What a model needs of a C library, in WebAssembly. */
#include "math.h"
#include "string.h"

float sqrtf(float x)
{
    return __builtin_sqrtf(x);
}

void *memset(void *to, int value, unsigned long count)
{
    for (unsigned char *p = (unsigned char *)to; count--;) *p++ = (unsigned char)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long count)
{
    const unsigned char *q = (const unsigned char *)from;
    for (unsigned char *p = (unsigned char *)to; count--;) *p++ = *q++;
    return to;
}
