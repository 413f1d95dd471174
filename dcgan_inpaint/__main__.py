"""`python -m dcgan_inpaint` is the command `dcgan-inpaint`."""

from dcgan_inpaint import short_command

if __name__ == "__main__":
  short_command.main()
