from fastconv.cpu.conv import conv_forward, conv_input_grad, conv_weight_grad
from fastconv.cpu.matmul import matmul
