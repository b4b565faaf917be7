package dev.toolkit.trainer

import android.app.AlertDialog
import android.content.DialogInterface
import android.view.View
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.policy.PolicySettings
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Everything
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.SettingsActivity
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowDialog
import org.robolectric.shadows.ShadowToast

/** "Delete everything": all of it, asked first, and never beside a run. */
@RunWith(RobolectricTestRunner::class)
class EverythingTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun filled(): TrainerApp {
        val app = Fixtures.deploy(temporary)
        File(Fixtures.folder, "bundles/words").copyRecursively(File(app.folders.own, "bundles/mine"))
        TextData(app.folders).make("my-text", app.bundles.require("words"), listOf("hello there, how are you?"))
        Fixtures.create(app, "a")
        File(app.cacheDir, "shared").mkdirs()
        File(app.cacheDir, "shared/a.zip").writeText("an adapter")
        return app
    }

    @Test
    fun `it is asked first, and then nothing is left but the settings`() {
        val app = filled()
        val settings = PolicySettings(minimumFreeMb = 0, minimumBattery = 35)
        app.policy.write(settings)
        val kept = Everything(app).count()
        assertEquals(listOf(1, 1, 1), listOf(kept.runs, kept.models, kept.data))
        assertTrue("${kept.bytes}", kept.bytes > app.bundles.require("mine").bytes)
        val screen = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        await("what is kept") { Pictures.text(screen, "1\u00A0run, 1\u00A0model, 1\u00A0set of training data") }
        screen.requireViewById<View>(R.id.wipe).performClick()
        await("the question") { ShadowDialog.getLatestDialog()?.isShowing == true }
        val dialog = ShadowDialog.getLatestDialog() as AlertDialog
        val words = shadowOf(dialog).message.toString()
        for (part in listOf("All runs", "1\u00A0model", "cannot be undone", "The settings stay")) assertTrue(words, part in words)
        assertTrue("nothing before it is said", app.runs.find("a") != null)
        dialog.getButton(DialogInterface.BUTTON_POSITIVE).performClick()
        await("the end") { ShadowToast.getTextOfLatestToast() == "Everything is deleted." }
        assertTrue(Everything(app).count().isNothing)
        for (place in listOf("runs", "bundles", "data")) assertTrue(place, !File(app.folders.own, place).exists())
        assertEquals(emptyList<File>(), app.cacheDir.listFiles().orEmpty().toList())
        assertEquals(settings, app.policy.read())
        assertTrue("what a computer put elsewhere stays", app.bundles.find("tiny") != null)
        // And it goes on from there.
        Fixtures.create(app, "b")
        app.controller.start("b")
        assertTrue(app.controller.join(60_000))
        assertEquals(8, app.runs.require("b").step)
    }

    @Test
    fun `not beside a run`() {
        val app = filled()
        Fixtures.power(plugged = false, level = 80)
        app.controller.start("a")
        await("the wait for the charger") { app.controller.active?.doing == Doing.WAITING }
        val error = assertThrows(AppException::class.java) { Everything(app).delete() }
        assertTrue(error.message, "“a” is active" in error.message!!)
        val screen = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        screen.requireViewById<View>(R.id.wipe).performClick()
        await("the refusal") { ShadowToast.getTextOfLatestToast().orEmpty().startsWith("Run a is active") }
        app.controller.stop()
        assertTrue(app.controller.join(60_000))
        assertTrue(app.runs.find("a") != null)
        app.makingText = TextData(app.folders)
        assertThrows(AppException::class.java) { Everything(app).delete() }
        app.makingText = null
        Everything(app).delete()
        assertNull(app.runs.find("a"))
    }
}
