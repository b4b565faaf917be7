package dev.toolkit.trainer

import android.app.Notification
import android.app.NotificationManager
import android.provider.Settings
import android.widget.Button
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.languages
import dev.toolkit.trainer.Pictures.looks
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.Notifications
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.RunActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import java.util.Locale

/** A phone whose storage is full: who trains waits and says so, who makes data is told, and nothing is lost. */
@RunWith(RobolectricTestRunner::class)
class FullDiskTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun notification(app: TrainerApp) = shadowOf(app.getSystemService(NotificationManager::class.java))
        .getNotification(Notifications.ONGOING_ID)?.extras?.getCharSequence(Notification.EXTRA_TEXT).toString()

    @Test
    fun `a run that waits for room says so everywhere, and goes on by itself`() = FullDisk(temporary).use { disk ->
        val app = Fixtures.deploy(temporary)
        val service = Robolectric.buildService(TrainingService::class.java).create()
        disk.trainThrough(app) {
            val words = "the storage is full. Free some space, and it goes on by itself"
            await("the notification") { words in notification(app) }
            val list = Robolectric.buildActivity(MainActivity::class.java).setup()
            await("the card") { text(list.get(), words) && text(list.get(), "since ") }
            val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
            await("the page") { text(page.get(), words) && text(page.get(), "since ") }
            for (screen in listOf(list, page)) {
                assertFalse("no promise of an end", text(screen.get(), "done about"))
                val button = screen.get().requireViewById<Button>(R.id.go_on)
                assertTrue(button.isShown && button.text == "Manage storage")
                button.performClick()
                assertEquals(Settings.ACTION_INTERNAL_STORAGE_SETTINGS, shadowOf(screen.get()).nextStartedActivity.action)
                screen.close()
            }
            // Of the phone in both themes and with a large font, the tablet, German and right to left.
            for (look in looks.take(3) + languages) {
                Pictures.apply(look)
                val shown = app.getString(R.string.wait_storage)
                Pictures.take(look, "run-full", RunActivity::class.java, RunActivity.intent(app, "a")) { text(it, shown) }
                Pictures.take(look, "runs-full", MainActivity::class.java, null) { text(it, shown) }
            }
            Pictures.apply(looks[0])
            Locale.setDefault(Locale.US)
            assertThrows(AppException::class.java) { Fixtures.create(app, "b").also { app.runs.save(it.copy(reason = "x".repeat(300_000))) } }
            assertEquals("the record of the run is whole", RunState.RUNNING, app.runs.require("a").state)
            assertNoData(app, disk)
        }
        service.destroy()
        Unit
    }

    private fun assertNoData(app: TrainerApp, disk: FullDisk) {
        java.nio.file.Files.createSymbolicLink(app.folders.data.toPath(), disk.folder.toPath())
        val long = listOf("hello there, how are you? ".repeat(20_000))
        val error = assertThrows(AppException::class.java) { TextData(app.folders).make("mine", app.bundles.require("words"), long) }
        assertTrue(error.message, "Free some space" in error.message!! || "Schaffe Platz" in error.message!!)
        assertFalse("nothing half made is left", disk.folder.list()!!.any { it.startsWith("mine") })
    }
}
