float sqrtf(float x);
