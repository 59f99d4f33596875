/** Opens the camera; what stands in the way is said in a sentence. */

const REASONS = {
  NotAllowedError: "The browser may not use the camera. Allow it in the address bar or the settings, and try again.",
  NotFoundError: "There is no camera on this device.",
  NotReadableError: "The camera is in use by another program, or does not answer.",
};

/** @returns a MediaStream */
export async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the camera only to pages that came over https or from this computer.");
  }
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? "The camera could not be opened.");
  }
}

/** Whether people see themselves in it, and expect a mirror. */
export function facesUser(camera) {
  return camera.getVideoTracks()[0].getSettings().facingMode !== "environment";
}
